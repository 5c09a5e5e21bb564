// The kernel of one instruction set in several forms: tiles of other heights, inner loops of other depths,
// panels fetched further ahead. Which is the fastest depends on the CPU and is measured at start. All give
// the same bits (tests/ops/gemm_forms_test.cpp): the choice is a matter of speed alone, and no part of what a
// resume compares. Nothing here is an inline function, as in gemm_kernel.h.
#pragma once
#include <cstdint>

#include "ops/gemm_kernel.h"

namespace retort {

struct GemmForm {
  const char* name;  // "8 rows": of a tile of a full panel
  GemmKernel kernel;
};

// The first is taken unless another is clearly faster. None where the CPU lacks the instructions.
struct GemmForms {
  const GemmForm* first;
  int64_t count;
};
GemmForms gemm_forms_avx2();
GemmForms gemm_forms_avx512();
GemmForms gemm_forms_avx512_bf16();

// What a report calls the form of a kernel that was chosen; "" for one that has no forms.
const char* form_name(const GemmKernel& kernel);

}  // namespace retort
