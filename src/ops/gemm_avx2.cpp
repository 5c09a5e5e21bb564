#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 8, kVectors = 2, kRows[] = {8, 6};
}
}  // namespace retort

#include "ops/gemm_body.h"
#include "ops/gemm_forms.h"

namespace retort {

namespace {

constexpr TileForm kPlain{6, 1, 0}, kDeep{6, 2, 0}, kAhead{6, 2, 16 * kVectors*kLanes * 4};

constexpr GemmForm kForms[] = {
    {"6 rows", kernel_of<MultiplyF32, kPlain>("avx2", Operand::f32)},
    {"6 rows, 2 steps", kernel_of<MultiplyF32, kDeep>("avx2", Operand::f32)},
    {"6 rows, panels ahead", kernel_of<MultiplyF32, kAhead>("avx2", Operand::f32)},
};

bool runs() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

}  // namespace

GemmForms gemm_forms_avx2() {
  return runs() ? GemmForms{kForms, sizeof kForms / sizeof *kForms} : GemmForms{nullptr, 0};
}

const GemmKernel* gemm_kernel_avx2() { return runs() ? &kForms[0].kernel : nullptr; }

}  // namespace retort
