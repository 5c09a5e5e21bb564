#include "ops/head.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "base/half.h"
#include "ops/differentiable.h"
#include "ops/row_loops.h"

namespace retort {
namespace {

constexpr int64_t kLogitBytes = 32 << 20;      // logits that one thread holds at a time
constexpr int64_t kDecodedRows = 4096;         // rows of a quantized head decoded at a time

// Targets by row: a row with several labels (a shared row with several continuations) is projected once.
struct Rows {
  std::vector<int64_t> row;                            // rising
  std::vector<std::pair<size_t, size_t>> span;         // of `order`
  std::vector<size_t> order;                           // indices of targets sorted by row
};

Rows rows_of(std::span<const Target> targets, int64_t n, int64_t vocabulary) {
  Rows rows;
  rows.order.resize(targets.size());
  std::iota(rows.order.begin(), rows.order.end(), size_t{0});
  std::stable_sort(rows.order.begin(), rows.order.end(), [&](size_t a, size_t b) { return targets[a].row < targets[b].row; });
  for (size_t i = 0; i < rows.order.size(); ++i) {
    const auto& target = targets[rows.order[i]];
    if (target.row < 0 || target.row >= n) throw std::logic_error("a target names a row outside the forest");
    if (target.label < 0 || target.label >= vocabulary)
      throw std::out_of_range("label " + std::to_string(target.label) + " is outside the model's vocabulary of " + std::to_string(vocabulary));
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

bool frozen(const Linear& linear_layer) {
  return !linear_layer.adapter && !linear_layer.bias.defined() && !linear_layer.weight.trainable();
}

// x W^T [R,V] in x's type, uncapped, without a graph. A quantized head is decoded a few thousand rows at a time.
Tensor project(const Tensor& x, const Head& head, const Pass& pass) {
  const auto& weight = head.linear.weight;
  if (!frozen(head.linear)) {
    const at::NoGradGuard no_graph;
    return linear(x, head.linear, pass);
  }
  if (weight.dense.defined() && weight.dense.scalar_type() == x.scalar_type()) return at::linear(x, weight.dense);
  auto logits = at::empty({x.size(0), weight.rows}, x.options());
  for (int64_t first = 0; first < weight.rows; first += kDecodedRows) {
    const auto count = std::min(kDecodedRows, weight.rows - first);
    logits.narrow(1, first, count).copy_(at::linear(x, widen_for_use(weight, first, count, x.scalar_type())));
  }
  return logits;
}

// dz [R,V] W -> [R,E] for a frozen head.
Tensor project_back(const Tensor& dz, const Weight& weight) {
  if (weight.dense.defined() && weight.dense.scalar_type() == dz.scalar_type()) return at::mm(dz, weight.dense);
  auto dx = at::zeros({dz.size(0), weight.columns}, at::TensorOptions(at::kFloat));
  for (int64_t first = 0; first < weight.rows; first += kDecodedRows) {
    const auto count = std::min(kDecodedRows, weight.rows - first);
    dx.add_(at::mm(dz.narrow(1, first, count), widen_for_use(weight, first, count, dz.scalar_type())));
  }
  return dx.to(dz.scalar_type());
}

void cap_logits(Tensor& logits, double cap) {
  if (cap <= 0) return;
  const int64_t width = logits.size(1);
  with_element(logits.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    auto* z = mutable_elements<Element>(logits);
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) loops_of<Element>().soft_cap(z + r * width, static_cast<float>(cap), width);
    });
  });
}

float value_of(float x) { return x; }
float value_of(uint16_t bits) { return bf16_to_float(bits); }
void set_value(float& x, float value) { x = value; }
void set_value(uint16_t& x, float value) { x = float_to_bf16(value); }

// Calls chunk(first, count, logits [count,V]) for runs of supervised rows, capped.
template <class Chunk>
void each_chunk(const Tensor& hidden, const Rows& rows, const Head& head, const Pass& pass, Chunk&& chunk) {
  const auto bytes = head.linear.weight.rows * static_cast<int64_t>(hidden.element_size());
  const auto most = static_cast<size_t>(std::clamp<int64_t>(kLogitBytes / bytes, 16, 2048));
  for (size_t first = 0; first < rows.row.size(); first += most) {
    const auto count = std::min(most, rows.row.size() - first);
    const auto x = hidden.index_select(0, index_of(rows.row, first, count));
    auto logits = project(x, head, pass);
    cap_logits(logits, head.soft_cap);
    chunk(first, count, x, logits);
  }
}

// sum_i w_i (log_sum - z_label) of each row; with `gradient`, logits become its gradient in place.
double chunk_loss(Tensor& logits, const Rows& rows, size_t first, std::span<const Target> targets, float cap, bool gradient) {
  const int64_t width = logits.size(1), count = logits.size(0);
  std::vector<double> losses(static_cast<size_t>(count));
  with_element(logits.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    auto* data = mutable_elements<Element>(logits);
    at::parallel_for(0, count, 4, [&](int64_t begin, int64_t end) {
      std::vector<std::pair<int32_t, float>> corrections;
      for (int64_t r = begin; r < end; ++r) {
        auto* z = data + r * width;
        const float log_sum = loops_of<Element>().log_sum_exp(z, width);
        const auto [from, to] = rows.span[first + static_cast<size_t>(r)];
        double total = 0, loss = 0;
        corrections.clear();
        for (auto i = from; i < to; ++i) {
          const auto& target = targets[rows.order[i]];
          const float logit = value_of(z[target.label]);
          loss += target.weight * (static_cast<double>(log_sum) - logit);
          total += target.weight;
          corrections.emplace_back(target.label, target.weight * (cap > 0 ? 1 - (logit / cap) * (logit / cap) : 1.0f));
        }
        losses[static_cast<size_t>(r)] = loss;
        if (!gradient) continue;
        loops_of<Element>().softmax_gradient(z, log_sum, static_cast<float>(total), cap, width);
        for (const auto& [label, correction] : corrections) set_value(z[label], value_of(z[label]) - correction);
      }
    });
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

std::vector<Tensor> leaves_of(const Linear& layer) {
  std::vector<Tensor> leaves;
  const auto take = [&](const Tensor& leaf) { if (leaf.defined() && leaf.requires_grad()) leaves.push_back(leaf); };
  take(layer.weight.dense);
  take(layer.bias);
  if (layer.adapter) {
    take(layer.adapter->a);
    take(layer.adapter->b);
    take(layer.adapter->magnitude);
  }
  return leaves;
}

// Gradients of `linear` for a head that learns: [x, leaves...].
Tensors learning_gradients(const Tensor& x, const Tensor& dz, const Linear& layer, const std::vector<Tensor>& leaves, const Pass& pass) {
  const at::AutoGradMode with_graph(true);
  auto input = x.detach().requires_grad_();
  const auto z = linear(input, layer, pass);
  Tensors inputs{input};
  inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  return torch::autograd::grad({z}, inputs, {dz}, std::nullopt, false, true);
}

}  // namespace

LossSum cross_entropy(const Tensor& hidden, std::span<const Target> targets, const Head& head, const Pass& pass) {
  const auto rows = rows_of(targets, hidden.size(0), head.linear.weight.rows);
  const auto leaves = leaves_of(head.linear);
  double weight = 0;
  for (const auto& target : targets) weight += target.weight;
  Tensors inputs{hidden};
  inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  // The gradient of each chunk is taken while its logits exist: backward only scales it.
  auto nats = differentiable(inputs, [&](bool recorded) -> Computed {
    double total = 0;
    const bool plain = frozen(head.linear);
    auto gradient = recorded ? at::empty({static_cast<int64_t>(rows.row.size()), hidden.size(1)}, hidden.options()) : Tensor();
    Tensors leaf_gradients(leaves.size());
    each_chunk(hidden, rows, head, pass, [&](size_t first, size_t count, const Tensor& x, Tensor& logits) {
      total += chunk_loss(logits, rows, first, targets, static_cast<float>(head.soft_cap), recorded);
      if (!recorded) return;
      auto part = gradient.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(count));
      if (plain) {
        part.copy_(project_back(logits, head.linear.weight));
        return;
      }
      const auto gradients = learning_gradients(x, logits, head.linear, leaves, pass);
      part.copy_(gradients[0]);
      for (size_t i = 0; i < leaves.size(); ++i)
        if (gradients[i + 1].defined()) leaf_gradients[i] = leaf_gradients[i].defined() ? leaf_gradients[i].add_(gradients[i + 1]) : gradients[i + 1].clone();
    });
    const auto value = at::scalar_tensor(total, at::TensorOptions(at::kFloat));
    return {value, [=, n = hidden.size(0), index = index_of(rows.row, 0, rows.row.size()), wants_hidden = hidden.requires_grad()](const Tensor& upstream) -> Tensors {
      const auto factor = upstream.item<double>();
      Tensors result(1 + leaf_gradients.size());
      if (wants_hidden) {
        result[0] = at::zeros({n, gradient.size(1)}, gradient.options());
        result[0].index_copy_(0, index, factor == 1 ? gradient : gradient * factor);
      }
      for (size_t i = 0; i < leaf_gradients.size(); ++i)
        if (leaf_gradients[i].defined()) result[i + 1] = leaf_gradients[i] * factor;
      return result;
    }};
  });
  return {nats, weight};
}

Scores score_targets(const Tensor& hidden, std::span<const Target> targets, const Head& head, const Pass& pass) {
  const at::NoGradGuard no_graph;
  const auto rows = rows_of(targets, hidden.size(0), head.linear.weight.rows);
  const auto count_all = static_cast<int64_t>(targets.size());
  Scores scores{at::empty({count_all}, at::TensorOptions(at::kFloat)), at::empty({count_all}, at::TensorOptions(at::kLong))};
  auto* log_probabilities = scores.log_probabilities.mutable_data_ptr<float>();
  auto* best = scores.argmax.mutable_data_ptr<int64_t>();
  each_chunk(hidden, rows, head, pass, [&](size_t first, size_t count, const Tensor&, Tensor& logits) {
    const auto winners = logits.argmax(1);
    const auto* winner = winners.const_data_ptr<int64_t>();
    const int64_t width = logits.size(1);
    with_element(logits.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      const auto* data = elements<Element>(logits);
      at::parallel_for(0, static_cast<int64_t>(count), 4, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const auto* z = data + r * width;
          const float log_sum = loops_of<Element>().log_sum_exp(z, width);
          const auto [from, to] = rows.span[first + static_cast<size_t>(r)];
          for (auto i = from; i < to; ++i) {
            log_probabilities[rows.order[i]] = value_of(z[targets[rows.order[i]].label]) - log_sum;
            best[rows.order[i]] = winner[r];
          }
        }
      });
    });
  });
  return scores;
}

Tensor target_log_probabilities(const Tensor& hidden, std::span<const Target> targets, const Head& head, const Pass& pass) {
  return score_targets(hidden, targets, head, pass).log_probabilities;
}

Tensor logits(const Tensor& hidden, std::span<const int32_t> rows, const Head& head, const Pass& pass) {
  const at::NoGradGuard no_graph;
  const std::vector<int64_t> wanted(rows.begin(), rows.end());
  auto z = project(hidden.index_select(0, index_of(wanted, 0, wanted.size())), head, pass).to(at::kFloat);
  cap_logits(z, head.soft_cap);
  return z;
}

}  // namespace retort
