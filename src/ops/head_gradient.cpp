#include "ops/head_gradient.h"

#include "ops/gemm.h"

namespace retort {

std::vector<Tensor> leaves_of(const Linear& layer) {
  std::vector<Tensor> leaves;
  const auto take = [&](const Tensor& leaf) { if (leaf.defined() && leaf.requires_grad()) leaves.push_back(leaf); };
  take(layer.weight.dense);
  take(layer.bias);
  if (layer.adapter) {
    take(layer.adapter->a);
    take(layer.adapter->b);
    take(layer.adapter->magnitude);
  }
  return leaves;
}

void add_head_gradients(const Weight& weight, const Tensor& x, const Tensor& dz, Tensor dx, Tensor& sum) {
  const auto type = x.scalar_type() == at::kFloat ? Operand::f32 : Operand::bf16;
  const auto& kernel = gemm_kernel(type);
  const int64_t n = x.size(0), width = weight.columns;
  const bool first = !sum.defined();
  if (first) sum = at::empty({weight.rows, width}, at::TensorOptions(at::kFloat));
  const GemmRows gradient{dz.const_data_ptr(), dz.stride(0), type};
  const GemmTerm term{gradient, weight.operand(true)};
  gemm(kernel, {&term, 1}, n, {dx.mutable_data_ptr(), dx.stride(0), type});
  gemm_transposed(kernel, gradient, weight.rows, {x.const_data_ptr(), x.stride(0), type}, width, n, {sum.mutable_data_ptr(), width, Operand::f32, nullptr, !first});
}

}  // namespace retort
