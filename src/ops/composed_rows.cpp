// Norms, rotations and gated activations over LibTorch calls.
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/device_kernels.h"
#include "ops/differentiable.h"

namespace retort {

Tensor composed_rms_norm(const Tensor& x, const Norm& norm) {
  if (auto in_one_pass = normed_on(x, {}, norm)) return in_one_pass->normed;
  const auto wide = x.to(at::kFloat);
  const auto scale = (wide.square().mean(-1, true) + norm.epsilon).rsqrt();
  const auto weight = brought(norm.weight, x.device(), norm.weight.scalar_type(), norm.copies);
  return (wide * scale * (weight + norm.offset)).to(x.scalar_type());
}

NormedSum composed_add_rms_norm(const Tensor& x, const Tensor& delta, const Norm& norm) {
  if (auto in_one_pass = normed_on(x, delta, norm)) return *std::move(in_one_pass);
  const auto sum = x + delta;
  return {sum, composed_rms_norm(sum, norm)};
}

Tensor composed_rotate(const Tensor& x, const Tensor& positions, const RotaryTable& table,
                       const RotatedPart& part) {
  if (auto in_one_pass = rotated_on(x, positions, table, part)) return *std::move(in_one_pass);
  const auto half = table.half;
  const auto [angles, rows] = rotation_on(x.device(), table, positions);
  const auto both = angles.index_select(1, rows).unsqueeze(2);  // [2,N,1,half]
  const auto c = both[0], s = both[1];
  const auto turned = x.narrow(2, part.first, 2 * half).to(at::kFloat);
  const auto rest = part.first + 2 * half;
  Tensor result;
  if (part.interleaved) {
    const auto pairs = turned.reshape({x.size(0), x.size(1), half, 2});
    const auto a = pairs.select(3, 0), b = pairs.select(3, 1);
    result = at::stack({a * c - b * s, b * c + a * s}, 3).flatten(2);
  } else {
    const auto a = turned.narrow(2, 0, half), b = turned.narrow(2, half, half);
    result = at::cat({a * c - b * s, b * c + a * s}, 2);
  }
  result = result.to(x.scalar_type());
  if (2 * half == x.size(2)) return result;
  return at::cat({x.narrow(2, 0, part.first), result, x.narrow(2, rest, x.size(2) - rest)}, 2);
}

// A backward of its own, which keeps the two inputs alone where the graph would keep what lies between.
Tensor composed_gated(const Tensor& gate, const Tensor& up, Activation activation) {
  const bool silu = activation == Activation::silu;
  const auto bytes = bytes_of(gate);
  return differentiable({"gated activation", 0, 3 * bytes, 0, 5 * bytes}, {gate, up}, [&](bool) -> Computed {
    const auto activated = [silu](const Tensor& x) { return silu ? at::silu(x) : at::gelu(x, "tanh"); };
    auto in_one_pass = gated_on(gate.detach(), up.detach(), silu);
    return {in_one_pass ? *std::move(in_one_pass) : activated(gate).mul_(up),
            [silu, activated, gate = gate.detach(), up = up.detach()](const Tensor& dy) -> Tensors {
              if (auto back = gated_back_on(dy, gate, up, silu))
                return {std::get<0>(*back), std::get<1>(*back)};
              const auto through = dy * up;
              return {silu ? at::silu_backward(through, gate) : at::gelu_backward(through, gate, "tanh"),
                      activated(gate).mul_(dy)};
            }};
  });
}

Tensor composed_weighted_gated(const Tensor& gate, const Tensor& up, const Tensor& weights,
                               Activation activation) {
  return (composed_gated(gate, up, activation) * weights.unsqueeze(1)).to(gate.scalar_type());
}

}  // namespace retort
