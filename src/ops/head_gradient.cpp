#include "ops/head_gradient.h"

#include <algorithm>

#include "base/profile.h"
#include "ops/composed.h"
#include "ops/gemm.h"
#include "ops/team.h"

namespace retort {

std::vector<Tensor> leaves_of(const Linear& layer) {
  std::vector<Tensor> leaves;
  const auto take = [&](const Tensor& leaf) {
    if (leaf.defined() && leaf.requires_grad()) leaves.push_back(leaf);
  };
  take(layer.weight.dense);
  take(layer.bias);
  if (layer.adapter) {
    take(layer.adapter->a);
    take(layer.adapter->b);
    take(layer.adapter->magnitude);
  }
  if (layer.rows) take(layer.rows->values);
  return leaves;
}

namespace {

Operand operand_of(const Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Operand::f32 : Operand::bf16;
}

}  // namespace

int64_t rows_at_once(const Weight& weight, at::ScalarType type) {
  constexpr int64_t kLogitBytes = 32 << 20;
  return std::clamp<int64_t>(kLogitBytes / (weight.rows * static_cast<int64_t>(c10::elementSize(type))), 16,
                             2048);
}

void head_input_gradient(const Weight& weight, const Tensor& dz, Tensor dx) {
  const auto type = operand_of(dz);
  const GemmTerm term{{dz.const_data_ptr(), dz.stride(0), type}, weight.operand(true)};
  gemm(gemm_kernel(type), {&term, 1}, dz.size(0), {dx.mutable_data_ptr(), dx.stride(0), type});
}

void ProductGradient::add_to(Tensor& sum) const {
  constexpr int64_t kRowsAtOnce = 2048;  // of the matrix, where they are scaled before they are added
  const int64_t vocabulary = matrix.size(0), width = matrix.size(1);
  const bool add = sum.defined();
  const Span span({"head's gradient", "step", 2.0 * static_cast<double>(x.size(0) * vocabulary * width),
                   bytes_of(dz) + bytes_of(x) + 4.0 * static_cast<double>(vocabulary * width), team_size()});
  if (!add) sum = at::empty({vocabulary, width}, at::TensorOptions(at::kFloat));
  if (composed(x)) {
    for (int64_t first = 0; first < vocabulary; first += kRowsAtOnce) {
      const auto rows = std::min(kRowsAtOnce, vocabulary - first);
      auto target = sum.narrow(0, first, rows);
      const auto product = sum_over_rows(dz.narrow(1, first, rows), x).to(target.device());
      if (add) target.add_(product, factor);
      else at::mul_out(target, product, at::scalar_tensor(factor, sum.options()));
    }
    return;
  }
  const auto type = operand_of(x);
  const auto multiply = [&](int64_t first, int64_t rows, Tensor out, bool added) {
    const auto some = dz.narrow(1, first, rows);
    gemm_transposed(gemm_kernel(type), {some.const_data_ptr(), dz.stride(0), type}, rows,
                    {x.const_data_ptr(), x.stride(0), type}, width, x.size(0),
                    {out.mutable_data_ptr(), width, Operand::f32, nullptr, added});
  };
  if (factor == 1) return multiply(0, vocabulary, sum, add);
  const auto memory = at::empty({std::min(kRowsAtOnce, vocabulary), width}, sum.options());
  for (int64_t first = 0; first < vocabulary; first += kRowsAtOnce) {
    const auto rows = std::min(kRowsAtOnce, vocabulary - first);
    auto target = sum.narrow(0, first, rows), product = memory.narrow(0, 0, rows);
    multiply(first, rows, product, false);
    if (add) target.add_(product, factor);
    else at::mul_out(target, product, at::scalar_tensor(factor, sum.options()));
  }
}

HeadMatrixGradient::HeadMatrixGradient(const Weight& weight, int64_t rows, at::ScalarType type,
                                       const GradientSink* sink) {
  product_.matrix = weight.dense;
  const auto factors = rows * static_cast<int64_t>(c10::elementSize(type)) * (weight.rows + weight.columns),
             product = weight.rows * weight.columns * 4;
  kept_ = sink && rows <= rows_at_once(weight, type) && factors < product;
}

void HeadMatrixGradient::add(const Tensor& dz, const Tensor& x) {
  product_.dz = dz, product_.x = x;
  if (kept_) return;
  product_.add_to(sum_);
  product_.dz = product_.x = Tensor();
}

Tensor HeadMatrixGradient::give(double factor, GradientSink* sink) const {
  if (!product_.dz.defined()) return factor == 1 || !sum_.defined() ? sum_ : sum_ * factor;
  auto gradient = product_;
  gradient.factor = factor;
  if (sink && sink->take_product(gradient)) return {};
  Tensor sum;
  gradient.add_to(sum);
  return sum;
}

Tensors HeadCost::gradients(double factor, int64_t n, const Tensor& index, size_t leaves,
                            GradientSink* sink) const {
  const auto scaled = [&](const Tensor& tensor) { return factor == 1 ? tensor : tensor * factor; };
  Tensors result(1 + leaves);
  if (n > 0)
    result[0] = at::zeros({n, gradient.size(1)}, gradient.options()).index_add_(0, index, scaled(gradient));
  if (of_matrix) result[1] = of_matrix->give(factor, sink);
  for (size_t i = 0; i < leaf_gradients.size(); ++i)
    if (leaf_gradients[i].defined()) result[1 + i] = scaled(leaf_gradients[i]);
  return result;
}

}  // namespace retort
