#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 8, kVectors = 2, kRows[] = {8, 6};
}
}  // namespace retort

#include "ops/gemm_body.h"

namespace retort {

const GemmKernel* gemm_kernel_avx2() {
  static constexpr GemmKernel kKernel = kernel_of<MultiplyF32>("avx2", Operand::f32);
  const bool runs =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  return runs ? &kKernel : nullptr;
}

}  // namespace retort
