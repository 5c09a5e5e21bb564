#include "ops/gated.h"

#include "ops/differentiable.h"
#include "ops/team.h"

namespace retort {

Tensor gated(const Tensor& gate_input, const Tensor& up_input, Activation activation) {
  const auto gate = gate_input.contiguous(), up = up_input.contiguous();
  const auto one = bytes_of(gate);
  return differentiable({"gated activation", 0, 3 * one, 0, 5 * one}, {gate, up}, [&](bool) -> Computed {
    auto y = at::empty(gate.sizes(), gate.options());
    with_element(gate.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      const auto *g = elements<Element>(gate), *u = elements<Element>(up);
      auto* out = mutable_elements<Element>(y);
      over_range(gate.numel(), 16384, [&](int64_t begin, int64_t end) {
        loops_of<Element>().gated(activation, g + begin, u + begin, out + begin, end - begin);
      });
    });
    return {y, [=, gate = gate.detach(), up = up.detach()](const Tensor& dy) -> Tensors {
      auto dgate = at::empty(gate.sizes(), gate.options()), dup = at::empty(up.sizes(), up.options());
      with_element(gate.scalar_type(), [&](auto element) {
        using Element = decltype(element);
        const auto *d = elements<Element>(dy), *g = elements<Element>(gate), *u = elements<Element>(up);
        auto *to_gate = mutable_elements<Element>(dgate), *to_up = mutable_elements<Element>(dup);
        over_range(gate.numel(), 16384, [&](int64_t begin, int64_t end) {
          loops_of<Element>().gated_backward(activation, d + begin, g + begin, u + begin, to_gate + begin, to_up + begin, end - begin);
        });
      });
      return {dgate, dup};
    }};
  });
}

}  // namespace retort
