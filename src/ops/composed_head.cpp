// What asked rows cost, over LibTorch calls: logits of a chunk of rows at a time, whose gradient is taken
// while they exist.
#include <torch/csrc/autograd/autograd.h>

#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/device_kernels.h"

namespace retort {

HeadCost composed_head_cost(const Tensor& hidden, const std::vector<int64_t>& rows, const Head& head,
                            const Pass& pass, bool recorded, const ChunkCost& cost) {
  const auto leaves = leaves_of(head.linear);
  // A matrix alone is multiplied without a graph: its logits are fp32, and its gradient goes to the sink.
  const bool plain = is_plain(head.linear), learns = recorded && plain && !leaves.empty();
  const auto& weight = head.linear.weight;
  HeadCost all;
  if (learns)
    all.of_matrix.emplace(weight, static_cast<int64_t>(rows.size()), hidden.scalar_type(), pass.gradients);
  else all.leaf_gradients.resize(leaves.size());
  std::vector<Tensor> of_rows;
  auto each = pass;
  each.gradients = nullptr;  // of every chunk, added here
  const auto most = static_cast<size_t>(rows_at_once(weight, hidden.scalar_type()));
  for (size_t first = 0; first < rows.size(); first += most) {
    const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<int64_t> part(begin,
                                    begin + static_cast<std::ptrdiff_t>(std::min(most, rows.size() - first)));
    auto x = hidden.detach().index_select(0, list_on(hidden, part));
    if (recorded && !plain) x.requires_grad_();
    each.dropout_key = pass.dropout_key + first;  // rows of another chunk are dropped by other draws
    Tensor z;
    if (!plain) {
      const at::AutoGradMode graph(recorded);
      z = linear(x, head.linear, each);
    }
    const at::NoGradGuard no_graph;
    auto logits = plain ? composed_logits(x, weight) : z.to(at::kFloat, false, /*copy=*/true);
    Tensor slope;
    if (head.soft_cap > 0) {
      logits.div_(head.soft_cap).tanh_();
      if (recorded) slope = 1 - logits.square();
      logits.mul_(head.soft_cap);
    }
    all.nats += cost(first, logits, recorded);
    if (!recorded) continue;
    if (slope.defined()) logits.mul_(slope);
    if (plain) {
      const auto dz = logits.to(x.scalar_type());
      of_rows.push_back(composed_product_back(dz, weight));
      if (learns) all.of_matrix->add(dz, x);
      continue;
    }
    std::vector<Tensor> asked{x};
    asked.insert(asked.end(), leaves.begin(), leaves.end());
    const auto gradients =
        torch::autograd::grad({z}, asked, {logits.to(z.scalar_type())}, std::nullopt, false, true);
    of_rows.push_back(gradients[0]);
    for (size_t i = 0; i < leaves.size(); ++i) {
      auto& sum = all.leaf_gradients[i];
      if (gradients[i + 1].defined())
        sum = sum.defined() ? sum.add_(gradients[i + 1]) : gradients[i + 1].clone();
    }
  }
  if (recorded)
    all.gradient = of_rows.empty() ? at::empty({0, hidden.size(1)}, hidden.options()) : at::cat(of_rows);
  return all;
}

double composed_cross_entropy(Tensor& logits, const RowLabels& labels, bool recorded) {
  const auto row = list_on(logits, labels.row), label = list_on(logits, labels.label);
  const auto weight = at::tensor(labels.weight, at::TensorOptions(at::kFloat)).to(logits.device());
  const auto place = row * logits.size(1) + label;
  auto flat = logits.view(-1);
  const auto of_labels = flat.index_select(0, place);
  const auto total =
      recorded ? at::zeros({logits.size(0)}, logits.options()).index_add_(0, row, weight) : Tensor();
  auto log_sum = softmax_gradient_on(logits, total);
  if (!log_sum) {
    log_sum = logits.logsumexp(1);
    if (recorded) logits.sub_(log_sum->unsqueeze(1)).exp_().mul_(total.unsqueeze(1));
  }
  if (recorded) flat.index_add_(0, place, weight, -1);
  return ((log_sum->index_select(0, row) - of_labels).to(at::kDouble) * weight).sum().item<double>();
}

double composed_logit_cost(Tensor& logits, std::span<const int32_t> rows, size_t first, int64_t vocabulary,
                           const LogitLoss& loss, bool recorded) {
  LogitRows chunk{rows.subspan(first, static_cast<size_t>(logits.size(0))), first,
                  logits.narrow(1, 0, vocabulary).cpu().contiguous()};
  const double nats = loss(chunk, recorded);
  if (!recorded) return nats;
  logits.narrow(1, 0, vocabulary).copy_(chunk.logits);
  logits.narrow(1, vocabulary, logits.size(1) - vocabulary).zero_();
  return nats;
}

double composed_id_cost(Tensor& logits, const IdRows& rows, size_t first, int64_t vocabulary,
                        const IdRowLoss& loss, bool recorded) {
  const auto count = static_cast<size_t>(logits.size(0));
  const auto begin = rows.offsets[first];
  std::vector<int64_t> row, place;
  for (size_t r = 0; r < count; ++r)
    for (auto i = rows.offsets[first + r]; i < rows.offsets[first + r + 1]; ++i) {
      row.push_back(static_cast<int64_t>(r));
      place.push_back(static_cast<int64_t>(r) * logits.size(1) + rows.ids[i]);
    }
  logits.div_(rows.temperature);
  const auto places = list_on(logits, place);
  const auto log_sum = logits.narrow(1, 0, vocabulary).logsumexp(1);
  auto flat = logits.view(-1);
  const auto log_q =
      (flat.index_select(0, places) - log_sum.index_select(0, list_on(logits, row))).cpu().contiguous();
  std::vector<float> softmax(count), corrections(place.size());
  double nats = 0;
  for (size_t r = 0; r < count; ++r) {
    const auto from = rows.offsets[first + r] - begin, some = rows.offsets[first + r + 1] - begin - from;
    const auto cost =
        loss(first + r, {log_q.const_data_ptr<float>() + from, some}, {corrections.data() + from, some});
    nats += cost.nats;
    softmax[r] = static_cast<float>(cost.softmax);
  }
  if (!recorded) return nats;
  const auto numbers = [&](const std::vector<float>& values) {
    return at::tensor(values, at::TensorOptions(at::kFloat)).to(logits.device());
  };
  logits.sub_(log_sum.unsqueeze(1)).exp_().mul_(numbers(softmax).unsqueeze(1));
  flat.index_add_(0, places, numbers(corrections));
  logits.div_(rows.temperature);
  logits.narrow(1, vocabulary, logits.size(1) - vocabulary).zero_();
  return nats;
}

}  // namespace retort
