// y = x W^T + bias + scaling * dropout(x) A^T B^T over LibTorch calls. Integers of `compute: int8` are the
// CPU kernels' alone: here the matrix is decoded to the type of x.
#include <cmath>

#include "base/random.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/device_kernels.h"
#include "ops/differentiable.h"
#include "ops/gradient_sink.h"

namespace retort {
namespace {

constexpr int64_t kDecodedBytes = 256 << 20;  // of a matrix, at a time

// Calls use(first, count) for runs of rows of the matrix that are decoded at a time.
template <class Use> void each_part(const Weight& weight, const Tensor& x, Use&& use) {
  const auto most = std::max<int64_t>(1, kDecodedBytes / (weight.columns * x.element_size()));
  for (int64_t first = 0; first < weight.rows; first += most) use(first, std::min(most, weight.rows - first));
}

Tensor product(const Tensor& x, const Weight& weight) {  // x W^T
  Tensor y;
  each_part(weight, x, [&](int64_t first, int64_t count) {
    const auto part = at::linear(x, widened_on(x, weight, first, count));
    if (count == weight.rows) return void(y = part);
    if (!y.defined()) y = at::empty({x.size(0), weight.rows}, x.options());
    y.narrow(1, first, count).copy_(part);
  });
  return y.defined() ? y : at::zeros({x.size(0), weight.rows}, x.options());
}

// A backward of its own: the graph would keep the decoded matrix, and has no sink for its gradient.
// `source`: where backward takes the matrix from, which is not kept then.
Tensor base_product(const Tensor& x, const Weight& weight, GradientSink* sink, const Linear* source,
                    bool left_out) {
  const auto flop = 2 * static_cast<double>(x.size(0)) * static_cast<double>(weight.rows) *
                    static_cast<double>(weight.columns);
  const OperationWork work{"linear", left_out ? 0 : flop,
                           static_cast<double>(weight.stored_bytes()) + bytes_of(x), flop,
                           static_cast<double>(weight.stored_bytes()) + bytes_of(x)};
  return differentiable(work, {x, weight.dense}, [&](bool) -> Computed {
    return {left_out ? at::zeros({x.size(0), weight.rows}, x.options()) : product(x, weight),
            [kept = source ? Weight() : weight, source, sink, wants_x = x.requires_grad(),
             x = weight.trainable() ? x.detach() : Tensor()](const Tensor& dy) -> Tensors {
              Tensors gradients(2);
              const auto matrix = source ? base_matrix(*source).weight : kept;
              if (wants_x) gradients[0] = composed_product_back(dy, matrix);
              if (!matrix.trainable()) return gradients;
              auto of_weight = sum_over_rows(dy, x).to(matrix.dense.device(), matrix.dense.scalar_type());
              if (!sink || !sink->take(matrix.dense, of_weight)) gradients[1] = std::move(of_weight);
              return gradients;
            }};
  });
}

// mix_bits() of base/random.h. int64 products wrap as unsigned ones do; shifts copy the sign, which is cut
// off.
Tensor mixed(Tensor x) {
  const auto folded = [](const Tensor& bits, int64_t by) {
    return at::bitwise_xor(bits,
                           at::bitwise_and(at::bitwise_right_shift(bits, by), (int64_t{1} << (64 - by)) - 1));
  };
  x = folded(x + static_cast<int64_t>(0x9E3779B97F4A7C15ull), 30) *
      static_cast<int64_t>(0xBF58476D1CE4E5B9ull);
  x = folded(x, 27) * static_cast<int64_t>(0x94D049BB133111EBull);
  return folded(x, 31);
}

// Whether each number of x [N,in] is kept: 16 bits of a draw each, as the kernels take them.
Tensor kept_by(const Tensor& x, double rate, const Draws& draws) {
  const auto count = x.numel();
  const auto threshold = std::lround(rate * 65536);
  const auto index = at::arange((count + 3) / 4, x.options().dtype(at::kLong));
  const auto bits = mixed(at::bitwise_xor(mixed(index), static_cast<int64_t>(draws.key())));
  const auto lanes = at::arange(0, 64, 16, bits.options());
  const auto values = at::bitwise_and(at::bitwise_right_shift(bits.unsqueeze(1), lanes), 0xFFFF);
  return values.ge(threshold).flatten().narrow(0, 0, count).view(x.sizes());
}

// Saves nothing: the draws are made again.
Tensor dropped(const Tensor& x, double rate, const Draws& draws) {
  const auto apply = [rate, draws](const Tensor& values) {
    if (auto kept = dropped_on(values, rate, draws.key())) return *std::move(kept);
    return (values * (1 / (1 - rate))).masked_fill_(kept_by(values, rate, draws).logical_not_(), 0);
  };
  return differentiable({"dropout", 0, 2 * bytes_of(x), 0, 2 * bytes_of(x)}, {x}, [&](bool) -> Computed {
    return {apply(x), [apply](const Tensor& dy) -> Tensors { return {apply(dy)}; }};
  });
}

// Row norms of W + s B A, some rows of it at a time; a constant in backward (arXiv:2402.09353, section 4.3).
Tensor direction_norms(const Tensor& x, const Weight& weight, const LowRank& adapter) {
  const at::NoGradGuard no_graph;
  std::vector<Tensor> norms;
  const auto device = x.device();
  const auto wide = x.to(at::kFloat), a = brought(adapter.a, device, at::kFloat),
             b = brought(adapter.b, device, at::kFloat);
  each_part(weight, wide, [&](int64_t first, int64_t count) {
    norms.push_back(
        at::addmm(widened_on(wide, weight, first, count), b.narrow(0, first, count), a, 1, adapter.scaling)
            .norm(2, {1}));
  });
  return at::cat(norms);
}

}  // namespace

Tensor composed_product_back(const Tensor& dy, const Weight& weight) {
  Tensor dx;
  each_part(weight, dy, [&](int64_t first, int64_t count) {
    const auto part = at::mm(dy.narrow(1, first, count), widened_on(dy, weight, first, count));
    dx = dx.defined() ? dx.add_(part) : part;
  });
  return dx.defined() ? dx : at::zeros({dy.size(0), weight.columns}, dy.options());
}

Tensor composed_logits(const Tensor& x, const Weight& weight) {
  auto z = at::empty({x.size(0), weight.rows}, x.options().dtype(at::kFloat));
  each_part(weight, x, [&](int64_t first, int64_t count) {
    z.narrow(1, first, count).copy_(wide_product(x, widened_on(x, weight, first, count).t()));
  });
  return z;
}

Tensor composed_linear(const Tensor& x, const Linear& layer, const Pass& pass, Wanted wanted) {
  const auto weight = base_matrix(layer).weight;
  const auto device = x.device();
  const auto type = x.scalar_type();
  const bool dora = layer.adapter && layer.adapter->magnitude.defined();
  const auto* const source = pass.lets_matrices_go && layer.source ? &layer : nullptr;
  auto y = base_product(x, weight, pass.gradients, source, wanted == Wanted::gradients && !dora);
  if (layer.adapter) {
    const auto& adapter = *layer.adapter;
    const auto rate = pass.training ? adapter.dropout : 0;
    const auto low = at::linear(rate > 0 ? dropped(x, rate, Draws(pass.dropout_key, layer.name)) : x,
                                brought(adapter.a, device, type));
    y = at::addmm(y, low, brought(adapter.b, device, type).t(), 1, adapter.scaling);
    if (dora) {
      const auto norms = direction_norms(x, weight, adapter);
      const auto none = norms.eq(0);  // a row of zeros has no direction
      const auto magnitude = brought(adapter.magnitude, device, adapter.magnitude.scalar_type());
      const auto size = at::where(none, at::ones_like(norms), magnitude / norms.masked_fill(none, 1));
      y = (y * size).to(type);
    }
  }
  if (!layer.bias.defined()) return y;
  return (y + brought(layer.bias, device, layer.bias.scalar_type(), layer.copies)).to(type);
}

}  // namespace retort
