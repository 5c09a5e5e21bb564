#include "ops/keep_rows.h"

#include "ops/differentiable.h"

namespace retort {

Tensor keep_rows(const Tensor& x, const Pass& pass) {
  if (!pass.rows.defined()) return x;
  return differentiable({"keep rows"}, {x}, [&](bool) -> Computed {
    const auto asked = pass.rows.to(x.device());
    return {x.index_select(0, asked), [rows = asked, shape = x.sizes().vec()](const Tensor& dy) -> Tensors {
              auto dx = at::zeros(shape, dy.options());
              dx.index_copy_(0, rows, dy);
              return {dx};
            }};
  });
}

}  // namespace retort
