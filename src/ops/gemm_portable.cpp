#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 4, kVectors = 2, kRows[] = {8, 4};
}
}  // namespace retort

#include "ops/gemm_body.h"

namespace retort {

const GemmKernel* gemm_kernel_portable() {
  static constexpr GemmKernel kKernel = kernel_of<MultiplyF32>("portable", Operand::f32);
  return &kKernel;
}

}  // namespace retort
