#include "ops/head.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "base/half.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/gemm.h"
#include "ops/head_gradient.h"
#include "ops/head_sweep.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

// Targets by row: a row with several labels (a shared row with several continuations) is projected once.
struct Rows {
  std::vector<int64_t> row;                     // rising
  std::vector<std::pair<size_t, size_t>> span;  // of `order`
  std::vector<size_t> order;                    // indices of targets sorted by row
};

Rows rows_of(std::span<const Target> targets, int64_t n, int64_t vocabulary) {
  Rows rows;
  rows.order.resize(targets.size());
  std::iota(rows.order.begin(), rows.order.end(), size_t{0});
  std::stable_sort(rows.order.begin(), rows.order.end(),
                   [&](size_t a, size_t b) { return targets[a].row < targets[b].row; });
  for (size_t i = 0; i < rows.order.size(); ++i) {
    const auto& target = targets[rows.order[i]];
    if (target.row < 0 || target.row >= n) throw std::logic_error("a target names a row outside the forest");
    if (target.label < 0 || target.label >= vocabulary)
      throw std::out_of_range("label " + std::to_string(target.label) +
                              " is outside the model's vocabulary of " + std::to_string(vocabulary));
    if (rows.row.empty() || rows.row.back() != target.row) {
      rows.row.push_back(target.row);
      rows.span.emplace_back(i, i);
    }
    rows.span.back().second = i + 1;
  }
  return rows;
}

Tensor index_of(const std::vector<int64_t>& rows, size_t first, size_t count) {
  auto index = at::empty({static_cast<int64_t>(count)}, at::TensorOptions(at::kLong));
  std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(first), count, index.mutable_data_ptr<int64_t>());
  return index;
}

// Rows of the hidden states and what is asked of them, for the sweep over the vocabulary.
AskedLabels asked_of(const Rows& rows, std::span<const Target> targets) {
  AskedLabels asked;
  for (const auto i : rows.order) asked.labels.push_back(targets[i].label);
  for (const auto& [from, to] : rows.span) asked.offsets.push_back(to);
  return asked;
}
Tensor rows_at(const Tensor& hidden, const Rows& rows) {
  return hidden.detach().index_select(0, index_of(rows.row, 0, rows.row.size()));
}

void cap_logits(Tensor& logits, double cap) {
  if (cap <= 0) return;
  const int64_t width = logits.size(1);
  with_element(logits.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    auto* z = mutable_elements<Element>(logits);
    over_range(logits.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        loops_of<Element>().soft_cap(z + r * width, static_cast<float>(cap), width);
    });
  });
}

float value_of(float x) { return x; }
float value_of(uint16_t bits) { return bf16_to_float(bits); }
void set_value(float& x, float value) { x = value; }
void set_value(uint16_t& x, float value) { x = float_to_bf16(value); }

// For heads that learn, or have an adapter: logits of a run of rows at a time. Calls chunk(first, count, x,
// z), z with a graph to x and to the head's leaves when `recorded`; values of z are to be changed through
// z.detach() alone.
template <class Chunk> void each_chunk(const Tensor& hidden, const Rows& rows, const Head& head,
                                       const Pass& pass, bool recorded, Chunk&& chunk) {
  auto each = pass;
  each.gradients = nullptr;  // of every chunk, for the caller to add
  const auto most = static_cast<size_t>(rows_at_once(head.linear.weight, hidden.scalar_type()));
  for (size_t first = 0; first < rows.row.size(); first += most) {
    const auto count = std::min(most, rows.row.size() - first);
    auto x = hidden.detach().index_select(0, index_of(rows.row, first, count));
    if (recorded) x.requires_grad_();
    const at::AutoGradMode graph(recorded);
    each.dropout_key = pass.dropout_key + first;  // rows of another chunk are dropped by other draws
    const auto z = linear(x, head.linear, each);
    const at::NoGradGuard no_graph;
    auto values = z.detach();
    cap_logits(values, head.soft_cap);
    chunk(first, count, x, z);
  }
}

// sum_i w_i (log_sum - z_label) of each row; with `gradient`, logits become its gradient in place.
double chunk_loss(Tensor& logits, const Rows& rows, size_t first, std::span<const Target> targets, float cap,
                  bool gradient) {
  const int64_t width = logits.size(1), count = logits.size(0);
  std::vector<double> losses(static_cast<size_t>(count));
  with_element(logits.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    auto* data = mutable_elements<Element>(logits);
    over_range(count, 4, [&](int64_t begin, int64_t end) {
      std::vector<std::pair<int32_t, float>> asked;  // labels of a row, each once, and their weights
      std::vector<float> logits_of;
      for (int64_t r = begin; r < end; ++r) {
        auto* z = data + r * width;
        const float log_sum = loops_of<Element>().log_sum_exp(z, width);
        const auto [from, to] = rows.span[first + static_cast<size_t>(r)];
        double total = 0, loss = 0;
        asked.clear(), logits_of.clear();
        for (auto i = from; i < to; ++i) {
          const auto& target = targets[rows.order[i]];
          const float logit = value_of(z[target.label]);
          loss += target.weight * (static_cast<double>(log_sum) - logit);
          total += target.weight;
          const auto before = std::find_if(asked.begin(), asked.end(),
                                           [&](const auto& each) { return each.first == target.label; });
          if (before != asked.end()) {
            before->second += target.weight;
            continue;
          }
          asked.emplace_back(target.label, target.weight);
          logits_of.push_back(logit);
        }
        losses[static_cast<size_t>(r)] = loss;
        if (!gradient) continue;
        loops_of<Element>().softmax_gradient(z, log_sum, static_cast<float>(total), cap, width);
        // From the exact softmax, not from what bf16 left of it: at a confident row the two nearly cancel.
        for (size_t i = 0; i < asked.size(); ++i) {
          const float slope = cap > 0 ? 1 - (logits_of[i] / cap) * (logits_of[i] / cap) : 1.0f;
          set_value(z[asked[i].first],
                    slope * (static_cast<float>(total) * std::exp(logits_of[i] - log_sum) - asked[i].second));
        }
      }
    });
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// The products of so many rows with the whole vocabulary; heads that learn go through linear(), which counts
// its own.
OperationWork work_of(size_t rows, const Head& head, const Tensor& hidden, int products) {
  const auto& weight = head.linear.weight;
  const auto flop =
      2.0 * products * static_cast<double>(rows) * static_cast<double>(weight.rows * weight.columns);
  return {"head and loss", flop,
          static_cast<double>(weight.stored_bytes()) +
              2.0 * static_cast<double>(rows) * static_cast<double>(weight.columns * hidden.element_size())};
}

// With `recorded` also the gradients.
HeadCost frozen_cost(const Tensor& hidden, const Rows& rows, std::span<const Target> targets,
                     const Head& head, bool recorded) {
  const auto& weight = head.linear.weight;
  const auto swept = sweep_head(rows_at(hidden, rows), asked_of(rows, targets),
                                {weight, head.linear.int8_scales, head.soft_cap}, recorded);
  HeadCost cost;
  const int64_t width = hidden.size(1);
  auto word = at::empty({1, width}, at::TensorOptions(at::kFloat));  // row of the matrix at a label
  for (size_t r = 0; r < rows.row.size(); ++r) {
    auto* gradient =
        recorded ? swept.expected.mutable_data_ptr<float>() + static_cast<int64_t>(r) * width : nullptr;
    double total = 0;
    for (auto i = rows.span[r].first; i < rows.span[r].second; ++i) total += targets[rows.order[i]].weight;
    if (gradient) loops_of<float>().to_float(gradient, static_cast<float>(total), gradient, width);
    for (auto i = rows.span[r].first; i < rows.span[r].second; ++i) {
      const auto& target = targets[rows.order[i]];
      const float bent = head.soft_cap > 0 ? swept.logits[i] / static_cast<float>(head.soft_cap) : 0.0f;
      cost.nats += target.weight * (static_cast<double>(swept.log_sum[r]) - swept.logits[i]);
      if (!gradient) continue;
      widen_rows_into(weight, target.label, 1, word);
      row_loops().scores.add_scaled(gradient, word.const_data_ptr<float>(),
                                    -target.weight * (1 - bent * bent), width);
    }
  }
  if (recorded) cost.gradient = swept.expected.to(hidden.scalar_type());
  return cost;
}

HeadCost learning_cost(const Tensor& hidden, const Rows& rows, std::span<const Target> targets,
                       const Head& head, const Pass& pass, bool recorded) {
  const auto leaves = leaves_of(head.linear);
  HeadCost cost;
  const auto asked_rows = static_cast<int64_t>(rows.row.size());
  const bool matrix_alone = is_plain(head.linear) && leaves.size() == 1;
  if (recorded) cost.gradient = at::empty({asked_rows, hidden.size(1)}, hidden.options());
  if (recorded && matrix_alone)
    cost.of_matrix.emplace(head.linear.weight, asked_rows, hidden.scalar_type(), pass.gradients);
  else cost.leaf_gradients.resize(leaves.size());
  each_chunk(
      hidden, rows, head, pass, recorded && !matrix_alone,
      [&](size_t first, size_t count, const Tensor& x, const Tensor& z) {
        auto values = z.detach();
        cost.nats += chunk_loss(values, rows, first, targets, static_cast<float>(head.soft_cap), recorded);
        if (!recorded) return;
        if (matrix_alone) {
          head_input_gradient(
              head.linear.weight, values,
              cost.gradient.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(count)));
          return cost.of_matrix->add(values, x);
        }
        Tensors asked{x};
        asked.insert(asked.end(), leaves.begin(), leaves.end());
        const auto gradients = torch::autograd::grad({z}, asked, {values}, std::nullopt, false, true);
        cost.gradient.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(count)).copy_(gradients[0]);
        for (size_t i = 0; i < leaves.size(); ++i) {
          auto& sum = cost.leaf_gradients[i];
          if (gradients[i + 1].defined())
            sum = sum.defined() ? sum.add_(gradients[i + 1]) : gradients[i + 1].clone();
        }
      });
  return cost;
}

// Labels of rows [first, first + count), and their targets' places among all.
RowLabels labels_of(const Rows& rows, std::span<const Target> targets, size_t first, size_t count) {
  RowLabels labels;
  for (size_t r = 0; r < count; ++r)
    for (auto i = rows.span[first + r].first; i < rows.span[first + r].second; ++i) {
      const auto& target = targets[rows.order[i]];
      labels.row.push_back(static_cast<int64_t>(r));
      labels.label.push_back(target.label);
      labels.weight.push_back(target.weight);
      labels.target.push_back(static_cast<int64_t>(rows.order[i]));
    }
  return labels;
}

HeadCost composed_cost(const Tensor& hidden, const Rows& rows, std::span<const Target> targets,
                       const Head& head, const Pass& pass, bool recorded) {
  return composed_head_cost(
      hidden, rows.row, head, pass, recorded, [&](size_t first, Tensor& logits, bool wanted) {
        const auto count = static_cast<size_t>(logits.size(0));
        return composed_cross_entropy(logits, labels_of(rows, targets, first, count), wanted);
      });
}

Scores composed_scores(const Tensor& hidden, const Rows& rows, std::span<const Target> targets,
                       const Head& head, const Pass& pass) {
  const auto all = static_cast<int64_t>(targets.size());
  Scores scores{at::empty({all}, hidden.options().dtype(at::kFloat)),
                at::empty({all}, hidden.options().dtype(at::kLong))};
  composed_head_cost(hidden, rows.row, head, pass, false, [&](size_t first, Tensor& logits, bool) {
    const auto labels = labels_of(rows, targets, first, static_cast<size_t>(logits.size(0)));
    const auto row = list_on(logits, labels.row), place = list_on(logits, labels.target);
    const auto log_p = logits.view(-1).index_select(0, row * logits.size(1) + list_on(logits, labels.label)) -
                       logits.logsumexp(1).index_select(0, row);
    scores.log_probabilities.index_copy_(0, place, log_p);
    scores.argmax.index_copy_(0, place, logits.argmax(1).index_select(0, row));
    return 0.0;
  });
  return {scores.log_probabilities.cpu(), scores.argmax.cpu()};
}

}  // namespace

LossSum cross_entropy(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                      const Pass& pass) {
  const auto rows = rows_of(targets, hidden.size(0), head.linear.weight.rows);
  const auto leaves = leaves_of(head.linear);
  double weight = 0;
  for (const auto& target : targets) weight += target.weight;
  Tensors inputs{hidden};
  inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  // The gradient is taken while the logits exist: backward only scales it.
  const bool fused = is_plain(head.linear) && !(any_wants_gradient(inputs) && head.linear.weight.trainable());
  const auto products = fused ? (any_wants_gradient(inputs) ? 2 : 1)
                        : is_plain(head.linear)
                            ? 1
                            : 0;  // without those of linear() and of the matrix's gradient
  auto nats = differentiable(
      work_of(rows.row.size(), head, hidden, products), inputs, [&](bool recorded) -> Computed {
        const auto cost = composed(hidden) ? composed_cost(hidden, rows, targets, head, pass, recorded)
                          : fused          ? frozen_cost(hidden, rows, targets, head, recorded)
                                           : learning_cost(hidden, rows, targets, head, pass, recorded);
        const auto value = at::scalar_tensor(cost.nats, hidden.options().dtype(at::kFloat));
        return {value, [cost, leaves = leaves.size(), n = hidden.requires_grad() ? hidden.size(0) : 0,
                        index = index_of(rows.row, 0, rows.row.size()).to(hidden.device()),
                        sink = pass.gradients](const Tensor& upstream) {
                  return cost.gradients(upstream.item<double>(), n, index, leaves, sink);
                }};
      });
  return {nats, weight};
}

Scores score_targets(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                     const Pass& pass) {
  const at::NoGradGuard no_graph;
  const auto rows = rows_of(targets, hidden.size(0), head.linear.weight.rows);
  if (composed(hidden)) return composed_scores(hidden, rows, targets, head, pass);
  const auto count_all = static_cast<int64_t>(targets.size());
  Scores scores{at::empty({count_all}, at::TensorOptions(at::kFloat)),
                at::empty({count_all}, at::TensorOptions(at::kLong))};
  auto* log_probabilities = scores.log_probabilities.mutable_data_ptr<float>();
  auto* best = scores.argmax.mutable_data_ptr<int64_t>();
  const auto put = [&](size_t row, float log_sum, int64_t winner, auto&& logit_of) {
    for (auto i = rows.span[row].first; i < rows.span[row].second; ++i) {
      log_probabilities[rows.order[i]] = logit_of(i) - log_sum;
      best[rows.order[i]] = winner;
    }
  };
  if (is_plain(head.linear)) {
    const Span span(work_of(rows.row.size(), head, hidden, 1).forward());
    const auto swept = sweep_head(rows_at(hidden, rows), asked_of(rows, targets),
                                  {head.linear.weight, {}, head.soft_cap}, false);
    for (size_t r = 0; r < rows.row.size(); ++r)
      put(r, swept.log_sum[r], swept.best[r], [&](size_t i) { return swept.logits[i]; });
    return scores;
  }
  each_chunk(
      hidden, rows, head, pass, false, [&](size_t first, size_t count, const Tensor&, const Tensor& logits) {
        const auto winners = logits.argmax(1);
        const int64_t width = logits.size(1);
        with_element(logits.scalar_type(), [&](auto element) {
          using Element = decltype(element);
          for (size_t r = 0; r < count; ++r) {
            const auto* z = elements<Element>(logits) + static_cast<int64_t>(r) * width;
            put(first + r, loops_of<Element>().log_sum_exp(z, width), winners.const_data_ptr<int64_t>()[r],
                [&](size_t i) { return value_of(z[targets[rows.order[i]].label]); });
          }
        });
      });
  return scores;
}

Tensor target_log_probabilities(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                                const Pass& pass) {
  return score_targets(hidden, targets, head, pass).log_probabilities;
}

Tensor logits(const Tensor& hidden, std::span<const int32_t> rows, const Head& head, const Pass& pass) {
  const at::NoGradGuard no_graph;
  const std::vector<int64_t> wanted(rows.begin(), rows.end());
  const auto x = hidden.index_select(0, index_of(wanted, 0, wanted.size()).to(hidden.device()));
  Tensor z;
  if (composed(x)) {
    z = is_plain(head.linear) ? composed_logits(x, head.linear.weight)
                              : linear(x, head.linear, pass).to(at::kFloat);
    return (head.soft_cap > 0 ? head.soft_cap * at::tanh(z / head.soft_cap) : z).cpu();
  }
  if (is_plain(head.linear)) {  // straight into fp32, which a product of the layer's type would round first
    auto work = work_of(rows.size(), head, hidden, 1);
    work.name = "logits";
    const Span span(work.forward());
    const auto type = x.scalar_type() == at::kFloat ? Operand::f32 : Operand::bf16;
    z = at::empty({x.size(0), head.linear.weight.rows}, at::TensorOptions(at::kFloat));
    const GemmTerm term{{x.const_data_ptr(), x.size(1), type}, head.linear.weight.operand(false)};
    if (x.size(0) > 0)
      gemm(gemm_kernel(type), {&term, 1}, x.size(0), {z.mutable_data_ptr(), z.size(1), Operand::f32});
  } else {
    z = linear(x, head.linear, pass).to(at::kFloat);
  }
  cap_logits(z, head.soft_cap);
  return z;
}

}  // namespace retort
