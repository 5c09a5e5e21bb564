// What the kinds of attention share: rows of activations as operands of a product, and a thread's memory.
#pragma once
#include "ops/attend_keys.h"
#include "ops/differentiable.h"
#include "ops/gemm.h"
#include "ops/scratch.h"

namespace retort {

inline int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

template <class T> T* scratch(Scratch use, int64_t count) {
  return reinterpret_cast<T*>(scratch_bytes(use, count * static_cast<int64_t>(sizeof(T))));
}

inline Operand operand_of(float) { return Operand::f32; }
inline Operand operand_of(uint16_t) { return Operand::bf16; }
template <class Number> GemmRows rows_of(const Number* data, int64_t stride) {
  return {data, stride, operand_of(Number{})};
}
// Dense or wider rows as a right operand: B = W^T, or with `transposed` B = W.
template <class Number>
GemmMatrix matrix_of(const Number* data, int64_t rows, int64_t columns, int64_t stride, bool transposed) {
  const auto type = std::is_same_v<Number, float> ? WeightType::f32 : WeightType::bf16;
  return {type,    reinterpret_cast<const std::byte*>(data),      rows,
          columns, stride * static_cast<int64_t>(sizeof(Number)), transposed,
          1};
}
template <class Number> const Number* numbers(const std::byte* bytes) {
  return reinterpret_cast<const Number*>(bytes);
}

// Calls with(operand element, kernel): fp32 activations meet fp32 kernels; bf16 ones what is faster on this
// machine.
template <class With> void with_kernel(at::ScalarType type, With&& with) {
  const auto& kernel = gemm_kernel(type == at::kFloat ? Operand::f32 : Operand::bf16);
  if (kernel.operand == Operand::f32) with(float{}, kernel);
  else with(uint16_t{}, kernel);
}

}  // namespace retort
