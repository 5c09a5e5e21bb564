#include "ops/head_rows.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "base/half.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/head_gradient.h"
#include "ops/head_sweep.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

Tensor index_of(std::span<const int32_t> rows) {
  auto index = at::empty({static_cast<int64_t>(rows.size())}, at::TensorOptions(at::kLong));
  std::copy(rows.begin(), rows.end(), index.mutable_data_ptr<int64_t>());
  return index;
}

// cost(recorded) becomes an operation: the gradient is taken while the logits exist, backward only scales it.
template <class CostOf> Tensor joined(const Tensor& hidden, std::span<const int32_t> rows,
                                      const std::vector<Tensor>& leaves, const Pass& pass, CostOf&& cost_of) {
  Tensors inputs{hidden};
  inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  return differentiable({"head and loss"}, inputs, [&](bool recorded) -> Computed {
    const HeadCost cost = cost_of(recorded);
    const auto value = at::scalar_tensor(cost.nats, hidden.options().dtype(at::kFloat));
    return {value,
            [cost, leaves = leaves.size(), n = hidden.requires_grad() ? hidden.size(0) : 0,
             index = index_of(rows).to(hidden.device()), sink = pass.gradients](const Tensor& upstream) {
              return cost.gradients(upstream.item<double>(), n, index, leaves, sink);
            }};
  });
}

// chunk(first, logits [count,V] in compute type, recorded) returns nats and, when recorded, leaves the
// gradient of the logits in their place. The projection's own graph then carries it to the rows and to what
// the head learns.
template <class Chunk> HeadCost cost_of_chunks(const Tensor& hidden, std::span<const int32_t> rows,
                                               const Head& head, const Pass& pass, bool recorded,
                                               Chunk&& chunk) {
  const auto leaves = leaves_of(head.linear);
  HeadCost cost;
  const auto asked_rows = static_cast<int64_t>(rows.size());
  const bool matrix_alone = is_plain(head.linear) && leaves.size() == 1;
  if (recorded) cost.gradient = at::empty({asked_rows, hidden.size(1)}, hidden.options());
  if (recorded && matrix_alone)
    cost.of_matrix.emplace(head.linear.weight, asked_rows, hidden.scalar_type(), pass.gradients);
  else cost.leaf_gradients.resize(leaves.size());
  auto each = pass;
  each.gradients = nullptr;  // of every chunk, added here
  const auto most = static_cast<size_t>(rows_at_once(head.linear.weight, hidden.scalar_type()));
  for (size_t first = 0; first < rows.size(); first += most) {
    const auto part = rows.subspan(first, std::min(most, rows.size() - first));
    const bool graphed = recorded && !matrix_alone;
    const at::AutoGradMode graph(graphed);
    auto x = hidden.detach().index_select(0, index_of(part));
    if (graphed) x.requires_grad_();
    each.dropout_key = pass.dropout_key + first;  // rows of another chunk are dropped by other draws
    const auto z = linear(x, head.linear, each);
    {
      const at::NoGradGuard no_graph;
      auto values = z.detach();  // the same memory, which nothing in the graph reads
      cost.nats += chunk(first, values, recorded);
    }
    if (!recorded) continue;
    if (matrix_alone) {
      head_input_gradient(
          head.linear.weight, z,
          cost.gradient.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(part.size())));
      cost.of_matrix->add(z, x);
      continue;
    }
    Tensors asked{x};
    asked.insert(asked.end(), leaves.begin(), leaves.end());
    const auto gradients = torch::autograd::grad({z}, asked, {z.detach()}, std::nullopt, false, true);
    const at::NoGradGuard no_graph;
    cost.gradient.narrow(0, static_cast<int64_t>(first), static_cast<int64_t>(part.size()))
        .copy_(gradients[0]);
    for (size_t i = 0; i < leaves.size(); ++i) {
      auto& sum = cost.leaf_gradients[i];
      if (gradients[i + 1].defined())
        sum = sum.defined() ? sum.add_(gradients[i + 1]) : gradients[i + 1].clone();
    }
  }
  return cost;
}

void require_rows(std::span<const int32_t> rows, int64_t n, const CutHead& cut) {
  for (const auto row : rows)
    if (row < 0 || row >= n) throw std::logic_error("a row outside the forest was asked for");
  if (cut.vocabulary <= 0 || cut.vocabulary > cut.head.linear.weight.rows)
    throw std::logic_error("the vocabulary asked for is not inside the head's");
}

float value_of(float x) { return x; }
float value_of(uint16_t bits) { return bf16_to_float(bits); }
void set_value(float& x, float value) { x = value; }
void set_value(uint16_t& x, float value) { x = float_to_bf16(value); }

template <class Element> void cap_rows(Tensor& logits, double cap) {
  if (cap <= 0) return;
  auto* z = mutable_elements<Element>(logits);
  const auto width = logits.size(1);
  for (int64_t r = 0; r < logits.size(0); ++r)
    loops_of<Element>().soft_cap(z + r * width, static_cast<float>(cap), width);
}

}  // namespace

Tensor loss_over_logits(const Tensor& hidden, std::span<const int32_t> rows, const CutHead& cut,
                        const Pass& pass, const LogitLoss& loss) {
  require_rows(rows, hidden.size(0), cut);
  const auto& head = cut.head;
  const auto vocabulary = cut.vocabulary;
  if (composed(hidden))
    return joined(hidden, rows, leaves_of(head.linear), pass, [&](bool recorded) {
      return composed_head_cost(hidden, {rows.begin(), rows.end()}, head, pass, recorded,
                                [&](size_t first, Tensor& z, bool wanted) {
                                  return composed_logit_cost(z, rows, first, vocabulary, loss, wanted);
                                });
    });
  const auto chunk_loss = [&](size_t first, Tensor& z, bool recorded) {
    with_element(z.scalar_type(), [&](auto element) { cap_rows<decltype(element)>(z, head.soft_cap); });
    LogitRows chunk{rows.subspan(first, static_cast<size_t>(z.size(0))), first,
                    z.narrow(1, 0, vocabulary).to(at::kFloat, false, true).contiguous()};
    Tensor slope;
    if (recorded && head.soft_cap > 0) slope = 1 - (chunk.logits / head.soft_cap).square_();
    const double nats = loss(chunk, recorded);
    if (recorded) {
      if (slope.defined()) chunk.logits.mul_(slope);
      z.narrow(1, 0, vocabulary).copy_(chunk.logits);
      if (vocabulary < z.size(1)) z.narrow(1, vocabulary, z.size(1) - vocabulary).zero_();
    }
    return nats;
  };
  return joined(hidden, rows, leaves_of(head.linear), pass, [&](bool recorded) {
    return cost_of_chunks(hidden, rows, head, pass, recorded, chunk_loss);
  });
}

namespace {

// The first `count` rows of a matrix, not copied.
Weight first_rows(const Weight& weight, int64_t count) {
  if (count == weight.rows) return weight;
  if (weight.dense.defined()) return dense_weight(weight.dense.detach().narrow(0, 0, count));
  auto first = weight;
  first.rows = count;
  first.blocks = weight.blocks.first(static_cast<size_t>(count) *
                                     (weight.blocks.size() / static_cast<size_t>(weight.rows)));
  return first;
}

// A head that learns nothing: one pass over the vocabulary, at the temperature. (cap * tanh(z / cap)) / T is
// the head on x / T with cap / T.
HeadCost swept_cost(const Tensor& hidden, const IdRows& rows, const CutHead& cut, const IdRowLoss& loss,
                    bool recorded) {
  const auto& head = cut.head;
  const auto temperature = rows.temperature;
  const auto inverse = static_cast<float>(1 / temperature),
             cap = static_cast<float>(head.soft_cap / temperature);
  auto x = hidden.detach().index_select(0, index_of(rows.rows));
  if (temperature != 1) x = x * inverse;
  const auto weight = first_rows(head.linear.weight, cut.vocabulary);
  const auto swept =
      sweep_head(x, {rows.offsets, rows.ids}, {weight, head.linear.int8_scales, cap}, recorded);
  HeadCost cost;
  const int64_t width = hidden.size(1);
  auto word = at::empty({1, width}, at::TensorOptions(at::kFloat));  // row of the matrix at an id
  std::vector<float> log_q, corrections;
  for (size_t r = 0; r < rows.rows.size(); ++r) {
    const auto begin = rows.offsets[r], count = rows.offsets[r + 1] - begin;
    log_q.resize(count);
    corrections.assign(count, 0);
    for (size_t i = 0; i < count; ++i) log_q[i] = swept.logits[begin + i] - swept.log_sum[r];
    const auto asked = loss(r, log_q, corrections);
    cost.nats += asked.nats;
    if (!recorded) continue;
    auto* gradient = swept.expected.mutable_data_ptr<float>() + static_cast<int64_t>(r) * width;
    loops_of<float>().to_float(gradient, static_cast<float>(asked.softmax) * inverse, gradient, width);
    for (size_t i = 0; i < count; ++i) {
      if (corrections[i] == 0) continue;
      const float bent = cap > 0 ? swept.logits[begin + i] / cap : 0.0f;
      widen_rows_into(weight, rows.ids[begin + i], 1, word);
      row_loops().scores.add_scaled(gradient, word.const_data_ptr<float>(),
                                    corrections[i] * inverse * (1 - bent * bent), width);
    }
  }
  if (recorded) cost.gradient = swept.expected.to(hidden.scalar_type());
  return cost;
}

}  // namespace

Tensor loss_over_ids(const Tensor& hidden, const IdRows& rows, const CutHead& cut, const Pass& pass,
                     const IdRowLoss& loss) {
  require_rows(rows.rows, hidden.size(0), cut);
  const auto& head = cut.head;
  const auto vocabulary = cut.vocabulary;
  const auto temperature = rows.temperature;
  if (rows.offsets.size() != rows.rows.size() + 1 || rows.offsets.back() != rows.ids.size())
    throw std::logic_error("ids do not belong to rows");
  for (const auto id : rows.ids)
    if (id < 0 || id >= vocabulary)
      throw std::out_of_range("id " + std::to_string(id) + " is outside the shared vocabulary of " +
                              std::to_string(vocabulary));
  if (composed(hidden))
    return joined(hidden, rows.rows, leaves_of(head.linear), pass, [&](bool recorded) {
      return composed_head_cost(hidden, {rows.rows.begin(), rows.rows.end()}, head, pass, recorded,
                                [&](size_t first, Tensor& z, bool wanted) {
                                  return composed_id_cost(z, rows, first, vocabulary, loss, wanted);
                                });
    });
  const auto cap = static_cast<float>(head.soft_cap / temperature),
             inverse = static_cast<float>(1 / temperature);
  const auto chunk_loss = [&](size_t first, Tensor& z, bool recorded) {
    const int64_t count = z.size(0), width = z.size(1);
    std::vector<double> nats(static_cast<size_t>(count));
    with_element(z.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      cap_rows<Element>(z, head.soft_cap);
      if (temperature != 1) z.mul_(inverse);
      auto* data = mutable_elements<Element>(z);
      over_range(count, 4, [&](int64_t begin, int64_t end) {
        std::vector<float> log_q, logit, corrections;
        for (int64_t r = begin; r < end; ++r) {
          auto* row = data + r * width;
          const auto index = first + static_cast<size_t>(r);
          const std::span ids(rows.ids.data() + rows.offsets[index],
                              rows.offsets[index + 1] - rows.offsets[index]);
          const float log_sum = loops_of<Element>().log_sum_exp(row, vocabulary);
          logit.resize(ids.size()), log_q.resize(ids.size());
          corrections.assign(ids.size(), 0);
          for (size_t i = 0; i < ids.size(); ++i) {
            logit[i] = value_of(row[ids[i]]);
            log_q[i] = logit[i] - log_sum;
          }
          const auto cost = loss(index, log_q, corrections);
          nats[static_cast<size_t>(r)] = cost.nats;
          if (!recorded) continue;
          loops_of<Element>().softmax_gradient(row, log_sum, static_cast<float>(cost.softmax) * inverse, cap,
                                               vocabulary);
          for (size_t i = 0; i < ids.size(); ++i) {
            const float slope = cap > 0 ? 1 - (logit[i] / cap) * (logit[i] / cap) : 1;
            // Added to the exact softmax term, not to what bf16 left of it: at a confident row the two nearly
            // cancel.
            set_value(row[ids[i]], (static_cast<float>(cost.softmax) * std::exp(log_q[i]) + corrections[i]) *
                                       inverse * slope);
          }
          std::fill(row + vocabulary, row + width, Element{});
        }
      });
    });
    return std::accumulate(nats.begin(), nats.end(), 0.0);
  };
  return joined(hidden, rows.rows, leaves_of(head.linear), pass, [&](bool recorded) {
    const bool swept = is_plain(head.linear) && !(recorded && head.linear.weight.trainable());
    return swept ? swept_cost(hidden, rows, cut, loss, recorded)
                 : cost_of_chunks(hidden, rows.rows, head, pass, recorded, chunk_loss);
  });
}

}  // namespace retort
