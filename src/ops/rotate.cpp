#include "ops/rotate.h"

#include <cstring>

#include "ops/differentiable.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

Tensor rotated(const Tensor& x, const Tensor& positions, const RotaryTable& table, float sign) {
  const int64_t rows = x.size(0), heads = x.size(1), width = x.size(2), half = table.half;
  auto y = at::empty(x.sizes(), x.options());
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto* in = elements<Element>(x);
    auto* out = mutable_elements<Element>(y);
    const auto* position = positions.const_data_ptr<int64_t>();
    over_range(rows, std::max<int64_t>(1, 16384 / (heads * width)), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const float *c = table.cosine.data() + position[n] * half,
                    *s = table.sine.data() + position[n] * half;
        for (int64_t h = 0; h < heads; ++h) {
          const auto at = (n * heads + h) * width;
          loops_of<Element>().rotate(in + at, c, s, sign, out + at, half);
          std::memcpy(out + at + 2 * half, in + at + 2 * half,
                      static_cast<size_t>(width - 2 * half) * sizeof(Element));
        }
      }
    });
  });
  return y;
}

}  // namespace

Tensor rotate(const Tensor& input, const Tensor& positions, const std::shared_ptr<const RotaryTable>& table) {
  const auto x = input.contiguous();
  const auto both = 2 * bytes_of(x), flop = 3.0 * static_cast<double>(x.numel());
  return differentiable({"rotate", flop, both, flop, both}, {x}, [&](bool) -> Computed {
    return {rotated(x, positions, *table, 1.0f),
            [=](const Tensor& dy) -> Tensors { return {rotated(dy, positions, *table, -1.0f)}; }};
  });
}

}  // namespace retort
