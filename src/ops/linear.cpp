#include "ops/linear.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "base/half.h"
#include "base/random.h"
#include "ops/differentiable.h"

namespace retort {
namespace {

// x with entries dropped at `rate` and the rest divided by 1 - rate. The draw of (row, column) is 16 bits of a hash of
// (key, layer, row * width + column): the same in backward and in a recomputation, with nothing saved.
Tensor dropped(const Tensor& x, double rate, uint64_t key, const std::string& layer) {
  const Draws draws(key, layer);
  const auto threshold = static_cast<uint64_t>(std::lround(rate * 65536));
  const auto scale = static_cast<float>(1 / (1 - rate));
  const int64_t width = x.size(1);
  auto y = at::empty(x.sizes(), x.options());
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto* in = elements<Element>(x);
    auto* out = mutable_elements<Element>(y);
    at::parallel_for(0, x.size(0), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * width; i < end * width;) {
        uint64_t bits = draws.bits(static_cast<uint64_t>(i / 4)) >> (i % 4 * 16);
        for (int64_t lane = i % 4; lane < 4 && i < end * width; ++lane, ++i, bits >>= 16) {
          const bool kept = (bits & 0xFFFF) >= threshold;
          if constexpr (std::is_same_v<Element, float>) out[i] = kept ? in[i] * scale : 0.0f;
          else out[i] = kept ? float_to_bf16(bf16_to_float(in[i]) * scale) : uint16_t{0};
        }
      }
    });
  });
  return y;
}

// Row norms of V = W + s B A without forming it: ||W||^2 + 2 s <W A^T, B> + s^2 <B (A A^T), B>, row by row. [out] fp32
Tensor direction_norms(const Tensor& w, const Tensor& a, const Tensor& b, double s) {
  auto squares = at::empty({w.size(0)}, at::TensorOptions(at::kFloat));
  auto cross = at::empty({w.size(0), a.size(0)}, at::TensorOptions(at::kFloat));
  for (int64_t first = 0; first < w.size(0); first += 512) {   // fp32 copies of 512 rows at a time
    const auto count = std::min<int64_t>(512, w.size(0) - first);
    const auto rows = w.narrow(0, first, count).to(at::kFloat);
    squares.narrow(0, first, count).copy_(rows.square().sum(1));
    cross.narrow(0, first, count).copy_(at::linear(rows, a));
  }
  const auto update = at::mm(b, at::linear(a, a));
  return (squares + 2 * s * (cross * b).sum(1) + s * s * (update * b).sum(1)).sqrt();
}

}  // namespace

Tensor linear(const Tensor& input, const Linear& layer, const Pass& pass) {
  const auto x = input.contiguous();
  const LowRank adapter = layer.adapter.value_or(LowRank{});
  const bool adapted = layer.adapter.has_value(), dora = adapter.magnitude.defined();
  const auto& weight = layer.weight;
  const auto type = pass.compute;
  return differentiable({x, weight.dense, layer.bias, adapter.a, adapter.b, adapter.magnitude}, [&](bool recorded) -> Computed {
    const double rate = pass.training && adapted ? adapter.dropout : 0;
    const auto w = widen_for_use(weight, 0, weight.rows, type);   // [out,in]
    auto y = at::linear(x, w);
    Tensor a, b, low, size, plain;   // the adapter in compute type; low = dropout(x) A^T [N,r]; size [out] and plain [N,out] for DoRA
    if (adapted) {
      a = adapter.a.to(type);
      b = adapter.b.to(type);
      low = at::linear(rate > 0 ? dropped(x, rate, pass.dropout_key, layer.name) : x, a);
      y.addmm_(low, b.t(), 1, adapter.scaling);
    }
    if (dora) {   // magnitude times direction; the norm counts as a constant in backward (arXiv:2402.09353, section 4.3)
      size = (adapter.magnitude / direction_norms(w, adapter.a, adapter.b, adapter.scaling)).to(type);
      if (recorded) plain = y;
      y = y * size;
    }
    if (layer.bias.defined()) y.add_(layer.bias.to(type));

    const bool wants_x = x.requires_grad(), wants_weight = weight.trainable(), wants_bias = layer.bias.defined() && layer.bias.requires_grad();
    const bool wants_a = adapted && adapter.a.requires_grad(), wants_b = adapted && adapter.b.requires_grad();
    const bool wants_magnitude = dora && adapter.magnitude.requires_grad();
    const bool needs_x = wants_weight || wants_a;
    return {y, [=, name = layer.name, saved = needs_x ? x.detach() : Tensor(), key = pass.dropout_key,
                scaling = adapter.scaling](const Tensor& dy) -> Tensors {
      Tensor dx, dweight, dbias, da, db, dmagnitude;
      if (wants_bias) dbias = dy.sum(0, false, at::kFloat);
      auto dz = dy;                                                        // gradient of x W^T + s u B^T
      if (dora) {
        if (wants_magnitude) {                                             // dm = sum_n dy z / ||V||, and size / m = 1 / ||V||
          const auto inverse_norm = size.to(at::kFloat) / adapter.magnitude;
          dmagnitude = (dy.to(at::kFloat) * plain).sum(0) * inverse_norm;
        }
        dz = dy * size;
      }
      if (wants_x) dx = at::mm(dz, widen_for_use(weight, 0, weight.rows, type));
      if (wants_weight) dweight = at::mm(dz.t(), saved).to(weight.dense.scalar_type());
      if (adapted) {
        auto v = at::mm(dz, b).mul_(scaling);                              // [N,r]
        if (wants_b) db = at::mm(dz.t(), low).to(at::kFloat).mul_(scaling);
        if (wants_a) da = at::mm(v.t(), rate > 0 ? dropped(saved, rate, key, name) : saved).to(at::kFloat);
        if (wants_x && rate > 0) dx.add_(dropped(at::mm(v, a), rate, key, name));
        else if (wants_x) dx.addmm_(v, a);
      }
      return {dx, dweight, dbias, da, db, dmagnitude};
    }};
  });
}

}  // namespace retort
