#include <immintrin.h>

#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 16, kVectors = 3, kRows[] = {16, 12, 8};
}
}  // namespace retort

#include "ops/gemm_body.h"
#include "ops/gemm_forms.h"

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

// With nine rows, sums and a step of the panel leave one register, for what is broadcast.
constexpr TileForm kPlain{8, 1, 0}, kTall{9, 1, 0}, kAhead{8, 2, 8 * kVectors*kLanes * 4};

constexpr GemmForm kForms[] = {
    {"8 rows", kernel_of<MultiplyF32, kPlain>("avx512", Operand::f32)},
    {"9 rows", kernel_of<MultiplyF32, kTall>("avx512", Operand::f32)},
    {"8 rows, panels ahead", kernel_of<MultiplyF32, kAhead>("avx512", Operand::f32)},
};
constexpr GemmForm kBf16Forms[] = {
    {"8 rows", kernel_of<MultiplyBf16, kPlain>("avx512_bf16", Operand::bf16)},
    {"9 rows", kernel_of<MultiplyBf16, kTall>("avx512_bf16", Operand::bf16)},
    {"8 rows, panels ahead", kernel_of<MultiplyBf16, kAhead>("avx512_bf16", Operand::bf16)},
};

}  // namespace

GemmForms gemm_forms_avx512() {
  return runs() ? GemmForms{kForms, sizeof kForms / sizeof *kForms} : GemmForms{nullptr, 0};
}

GemmForms gemm_forms_avx512_bf16() {
  return runs() ? GemmForms{kBf16Forms, sizeof kBf16Forms / sizeof *kBf16Forms} : GemmForms{nullptr, 0};
}

const GemmKernel* gemm_kernel_avx512() { return runs() ? &kForms[0].kernel : nullptr; }

const GemmKernel* gemm_kernel_avx512_bf16() { return runs() ? &kBf16Forms[0].kernel : nullptr; }

}  // namespace retort
