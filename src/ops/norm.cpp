#include "ops/norm.h"

#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {

namespace {

struct Rows {
  int64_t width, count, grain;
  explicit Rows(const Tensor& x)
      : width(x.size(-1)),
        count(width == 0 ? 0 : x.numel() / width),
        grain(std::max<int64_t>(1, 32768 / std::max<int64_t>(width, 1))) {}
};

// rms_norm of x, or of x + delta, which then goes to `sum`.
void forward(const Tensor& x, const Tensor& delta, Tensor& sum, const Norm& norm, Tensor& y,
             Tensor& inverse_rms) {
  const Rows rows(x);
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto* in = elements<Element>(x);
    const auto* more = delta.defined() ? elements<Element>(delta) : nullptr;
    auto* added = delta.defined() ? mutable_elements<Element>(sum) : nullptr;
    auto* out = mutable_elements<Element>(y);
    auto* r = inverse_rms.mutable_data_ptr<float>();
    const auto* w = norm.weight.const_data_ptr<float>();
    over_range(rows.count, rows.grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto at = i * rows.width;
        loops_of<Element>().rms_norm(in + at, more ? more + at : nullptr, more ? added + at : nullptr, w,
                                     static_cast<float>(norm.offset), static_cast<float>(norm.epsilon),
                                     out + at, r + i, rows.width);
      }
    });
  });
}

// Gradients of x and of the weight; `more` is what else reaches x.
std::pair<Tensor, Tensor> backward(const Tensor& dy, const Tensor& x, const Tensor& more, const Norm& norm,
                                   const Tensor& inverse_rms, bool wants_weight) {
  const Rows rows(x);
  auto dx = at::empty(x.sizes(), x.options());
  Tensor dw = wants_weight ? at::zeros({rows.width}, at::TensorOptions(at::kFloat)) : Tensor();
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto *g = elements<Element>(dy), *in = elements<Element>(x);
    const auto* also = more.defined() ? elements<Element>(more) : nullptr;
    auto* out = mutable_elements<Element>(dx);
    const auto* r = inverse_rms.const_data_ptr<float>();
    const auto* w = norm.weight.const_data_ptr<float>();
    const auto span = [&](int64_t begin, int64_t end, float* sums) {
      for (int64_t i = begin; i < end; ++i) {
        const auto at = i * rows.width;
        loops_of<Element>().rms_norm_backward(g + at, in + at, also ? also + at : nullptr, w,
                                              static_cast<float>(norm.offset), r[i], out + at, sums,
                                              rows.width);
      }
    };
    if (wants_weight) span(0, rows.count, dw.mutable_data_ptr<float>());  // one order of summation
    else over_range(rows.count, rows.grain, [&](int64_t begin, int64_t end) { span(begin, end, nullptr); });
  });
  return {dx, dw};
}

}  // namespace

Tensor rms_norm(const Tensor& input, const Norm& norm) {
  if (composed(input)) return composed_rms_norm(input, norm);
  const auto x = input.contiguous();
  return differentiable(
      {"norm", 0, 2 * bytes_of(x), 0, 3 * bytes_of(x)}, {x, norm.weight}, [&](bool) -> Computed {
        auto y = at::empty(x.sizes(), x.options()),
             inverse_rms = at::empty({Rows(x).count}, at::TensorOptions(at::kFloat));
        Tensor none;
        forward(x, none, none, norm, y, inverse_rms);
        return {y,
                [=, saved = x.detach(), wants_x = x.requires_grad(),
                 wants_weight = norm.weight.requires_grad()](const Tensor& dy) -> Tensors {
                  const auto [dx, dw] = backward(dy, saved, {}, norm, inverse_rms, wants_weight);
                  return {wants_x ? dx : Tensor(), dw};
                }};
      });
}

NormedSum add_rms_norm(const Tensor& x_input, const Tensor& delta_input, const Norm& norm) {
  const auto x = x_input.contiguous(), delta = delta_input.contiguous();
  if (delta.scalar_type() != x.scalar_type()) throw std::logic_error("add_rms_norm: two types");
  if (composed(x)) return composed_add_rms_norm(x, delta, norm);
  const auto results = differentiable_many(
      {"norm", 0, 4 * bytes_of(x), 0, 4 * bytes_of(x)}, {x, delta, norm.weight}, [&](bool) -> ManyComputed {
        auto sum = at::empty(x.sizes(), x.options()), y = at::empty(x.sizes(), x.options()),
             inverse_rms = at::empty({Rows(x).count}, at::TensorOptions(at::kFloat));
        forward(x, delta, sum, norm, y, inverse_rms);
        return {{sum, y},
                [=, saved = sum.detach(),
                 wants_weight = norm.weight.requires_grad()](const Tensors& gradients) -> Tensors {
                  if (!gradients[1].defined()) return {gradients[0], gradients[0], Tensor()};
                  const auto [dx, dw] =
                      backward(gradients[1], saved, gradients[0], norm, inverse_rms, wants_weight);
                  return {dx, dx, dw};
                }};
      });
  return {results[0], results[1]};
}

}  // namespace retort
