#include "ops/norm.h"

#include <ATen/Parallel.h>

#include <mutex>

#include "ops/differentiable.h"
#include "ops/row_loops.h"

namespace retort {

Tensor rms_norm(const Tensor& input, const Norm& norm) {
  const auto weight = norm.weight;
  const auto x = input.contiguous();
  return differentiable({x, weight}, [&](bool) -> Computed {
    const int64_t width = x.size(-1), rows = width == 0 ? 0 : x.numel() / width, grain = std::max<int64_t>(1, 32768 / width);
    auto y = at::empty(x.sizes(), x.options());
    auto inverse_rms = at::empty({rows}, at::TensorOptions(at::kFloat));
    const auto offset = static_cast<float>(norm.offset), epsilon = static_cast<float>(norm.epsilon);
    with_element(x.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      const auto* in = elements<Element>(x);
      auto* out = mutable_elements<Element>(y);
      auto* r = inverse_rms.mutable_data_ptr<float>();
      const auto* w = weight.const_data_ptr<float>();
      at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) loops_of<Element>().rms_norm(in + i * width, w, offset, epsilon, out + i * width, r + i, width);
      });
    });
    const bool wants_x = x.requires_grad(), wants_weight = weight.requires_grad();
    return {y, [=, saved = x.detach()](const Tensor& dy) -> Tensors {
      auto dx = at::empty(saved.sizes(), saved.options());
      Tensor dw = wants_weight ? at::zeros({width}, at::TensorOptions(at::kFloat)) : Tensor();
      with_element(saved.scalar_type(), [&](auto element) {
        using Element = decltype(element);
        const auto* g = elements<Element>(dy);
        const auto* in = elements<Element>(saved);
        auto* out = mutable_elements<Element>(dx);
        const auto* r = inverse_rms.const_data_ptr<float>();
        const auto* w = weight.const_data_ptr<float>();
        const auto span = [&](int64_t begin, int64_t end, float* sums) {
          for (int64_t i = begin; i < end; ++i)
            loops_of<Element>().rms_norm_backward(g + i * width, in + i * width, w, offset, r[i], out + i * width, sums, width);
        };
        if (wants_weight) span(0, rows, dw.mutable_data_ptr<float>());   // one order of summation
        else at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { span(begin, end, nullptr); });
      });
      return {wants_x ? dx : Tensor(), dw};
    }};
  });
}

}  // namespace retort
