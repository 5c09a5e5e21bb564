#include "ops/rotate.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>

#include "kernels/rotate_body.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

template <class Element>
void rotate_pairs(const Element* x, const float* c, const float* s, float sign, Element* y, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const auto pair = rotated_pair(widened(x[2 * i]), widened(x[2 * i + 1]), c[i], sign * s[i]);
    narrow_into(y[2 * i], pair.a);
    narrow_into(y[2 * i + 1], pair.b);
  }
}

Tensor rotated(const Tensor& x, const Tensor& positions, const RotaryTable& table, const RotatedPart& part,
               float sign) {
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
          const auto at = (n * heads + h) * width, turned = at + part.first;
          std::copy_n(in + at, part.first, out + at);
          if (part.interleaved) rotate_pairs(in + turned, c, s, sign, out + turned, half);
          else loops_of<Element>().rotate(in + turned, c, s, sign, out + turned, half);
          std::copy(in + turned + 2 * half, in + at + width, out + turned + 2 * half);
        }
      }
    });
  });
  return y;
}

}  // namespace

RotationThere rotation_on(at::Device device, const RotaryTable& table, const Tensor& positions) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (!table.there.defined() || table.there.device() != device) {
    const auto list = [&](const std::vector<float>& values) {
      return at::from_blob(const_cast<float*>(values.data()), {table.positions, table.half},
                           at::TensorOptions(at::kFloat));
    };
    table.there = at::stack({list(table.cosine), list(table.sine)}).to(device);
  }
  const auto version = static_cast<int64_t>(positions._version());
  if (!table.positions_of.is_same(positions) || table.version_of != version ||
      table.positions_there.device() != device) {
    table.positions_of = positions, table.version_of = version;
    table.positions_there = positions.to(device);
  }
  return {table.there, table.positions_there};
}

Tensor rotate(const Tensor& input, const Tensor& positions, const std::shared_ptr<const RotaryTable>& table,
              const RotatedPart& part) {
  const auto x = input.contiguous();
  if (part.first + 2 * table->half > x.size(2)) throw std::logic_error("rotate: a head is narrower");
  if (composed(x)) return composed_rotate(x, positions, *table, part);
  const auto both = 2 * bytes_of(x), flop = 3.0 * static_cast<double>(x.numel());
  return differentiable({"rotate", flop, both, flop, both}, {x}, [&](bool) -> Computed {
    return {rotated(x, positions, *table, part, 1.0f),
            [=](const Tensor& dy) -> Tensors { return {rotated(dy, positions, *table, part, -1.0f)}; }};
  });
}

}  // namespace retort
