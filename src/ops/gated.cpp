#include "ops/gated.h"

#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/team.h"

namespace retort {
namespace {

// Calls row(n) for every row, several rows a task.
template <class Row> void each_row(const Tensor& matrix, Row&& row) {
  over_range(matrix.size(0), std::max<int64_t>(1, 16384 / std::max<int64_t>(1, matrix.size(1))),
             [&](int64_t begin, int64_t end) {
               for (int64_t n = begin; n < end; ++n) row(n);
             });
}

}  // namespace

Tensor gated(const Tensor& gate_input, const Tensor& up_input, Activation activation) {
  const auto gate = gate_input.contiguous(), up = up_input.contiguous();
  if (composed(gate)) return composed_gated(gate, up, activation);
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
                const auto *d = elements<Element>(dy), *g = elements<Element>(gate),
                           *u = elements<Element>(up);
                auto *to_gate = mutable_elements<Element>(dgate), *to_up = mutable_elements<Element>(dup);
                over_range(gate.numel(), 16384, [&](int64_t begin, int64_t end) {
                  loops_of<Element>().gated_backward(activation, d + begin, g + begin, u + begin,
                                                     to_gate + begin, to_up + begin, end - begin);
                });
              });
              return {dgate, dup};
            }};
  });
}

Tensor weighted_gated(const Tensor& gate_input, const Tensor& up_input, const Tensor& weight_input,
                      Activation activation) {
  const auto gate = gate_input.contiguous(), up = up_input.contiguous(), weights = weight_input.contiguous();
  if (composed(gate)) return composed_weighted_gated(gate, up, weights, activation);
  const auto one = bytes_of(gate);
  return differentiable(
      {"gated activation", 0, 3 * one, 0, 5 * one}, {gate, up, weights}, [&](bool) -> Computed {
        const int64_t width = gate.size(1);
        auto y = at::empty(gate.sizes(), gate.options());
        with_element(gate.scalar_type(), [&](auto element) {
          using Element = decltype(element);
          const auto *g = elements<Element>(gate), *u = elements<Element>(up);
          const auto* w = weights.const_data_ptr<float>();
          auto* out = mutable_elements<Element>(y);
          each_row(gate, [&](int64_t n) {
            auto* row = out + n * width;
            loops_of<Element>().gated(activation, g + n * width, u + n * width, row, width);
            for (int64_t i = 0; i < width; ++i) narrow_into(row[i], w[n] * widened(row[i]));
          });
        });
        return {y,
                [=, gate = gate.detach(), up = up.detach(), weights = weights.detach(),
                 wants_weights = weights.requires_grad()](const Tensor& dy) -> Tensors {
                  auto dgate = at::empty(gate.sizes(), gate.options()),
                       dup = at::empty(up.sizes(), up.options());
                  auto dweights = wants_weights ? at::empty(weights.sizes(), weights.options()) : Tensor();
                  with_element(gate.scalar_type(), [&](auto element) {
                    using Element = decltype(element);
                    const auto *d = elements<Element>(dy), *g = elements<Element>(gate),
                               *u = elements<Element>(up);
                    const auto* w = weights.const_data_ptr<float>();
                    auto* dw = wants_weights ? dweights.mutable_data_ptr<float>() : nullptr;
                    auto *to_gate = mutable_elements<Element>(dgate), *to_up = mutable_elements<Element>(dup);
                    each_row(gate, [&](int64_t n) {
                      thread_local std::vector<Element> row;
                      row.resize(static_cast<size_t>(width));
                      const auto first = n * width;
                      if (dw) {  // dy . activation(gate) * up, computed again
                        loops_of<Element>().gated(activation, g + first, u + first, row.data(), width);
                        double sum = 0;
                        for (int64_t i = 0; i < width; ++i)
                          sum += static_cast<double>(widened(d[first + i])) *
                                 static_cast<double>(widened(row[static_cast<size_t>(i)]));
                        dw[n] = static_cast<float>(sum);
                      }
                      for (int64_t i = 0; i < width; ++i)
                        narrow_into(row[static_cast<size_t>(i)], w[n] * widened(d[first + i]));
                      loops_of<Element>().gated_backward(activation, row.data(), g + first, u + first,
                                                         to_gate + first, to_up + first, width);
                    });
                  });
                  return {dgate, dup, dweights};
                }};
      });
}

}  // namespace retort
