#include <immintrin.h>

#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 16, kVectors = 3, kRows[] = {16, 12, 8};
}
}  // namespace retort

#include "ops/gemm_body.h"

namespace retort {
namespace {

struct MultiplyBf16 {  // two products and their sum a lane, accumulated in fp32
  static constexpr int64_t kPair = 2;
  __attribute__((always_inline)) static Sums add(Sums sum, Cells a, Cells b) {
    return (Sums)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
};

// The file is compiled with all of these allowed, so all of them are asked for.
bool runs() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

}  // namespace

const GemmKernel* gemm_kernel_avx512() {
  static constexpr GemmKernel kKernel = kernel_of<MultiplyF32>("avx512", Operand::f32);
  return runs() ? &kKernel : nullptr;
}

const GemmKernel* gemm_kernel_avx512_bf16() {
  static constexpr GemmKernel kKernel = kernel_of<MultiplyBf16>("avx512_bf16", Operand::bf16);
  return runs() ? &kKernel : nullptr;
}

}  // namespace retort
