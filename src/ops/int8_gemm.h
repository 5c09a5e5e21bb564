// Products on 8-bit integers, an opt-in (`compute: int8`): activations with one scale a token and 96 columns,
// weights with one a row, sums of a group exact, groups summed in fp32. VNNI multiplies unsigned by signed
// bytes: activations are stored plus 128, and the sums begin at -128 times the sum of the group's weights.
// Nothing here is an inline function: a file compiled for AVX-512 includes this.
#pragma once
#include <cstdint>

#include "ops/gemm_kernel.h"

namespace retort {

struct Int8Rows {        // [m, k] activations
  int64_t m, k, groups;  // groups of 96 columns, the last one filled up with zeros to a multiple of 4
  uint8_t* codes;        // [m][stride], 128 + code
  int64_t stride;
  float* scales;  // [m][groups]
};

struct Int8Kernel {
  // Row `row` of `rows` from k activations times `factors` [k] (or null).
  void (*quantize)(const void* x, Operand type, const float* factors, Int8Rows& rows, int64_t row);
  // `count` weights times `inverse` to codes.
  void (*encode)(const uint16_t* bf16, float inverse, int64_t count, int8_t* out);
  // Panels of 48 columns or less, [cells of 4][vectors][16] as in GemmKernel: from codes [n <= 16][k] one
  // vector, from codes [k][n] a panel.
  void (*pack_rows)(const int8_t* rows, int64_t row_bytes, int64_t n, int64_t k, void* vector,
                    int64_t cell_row_bytes);
  void (*pack_columns)(const int8_t* rows, int64_t row_bytes, int64_t k, int64_t n, void* panel);
  // [groups][columns rounded up to 16] from a packed panel.
  void (*corrections)(const void* panel, int64_t k, int64_t columns, int32_t* out);
  // out[m, columns rounded up to 16] = rows times panel, column c times factors[c]; or without factors, and
  // then perhaps added to what is there.
  void (*multiply)(const Int8Rows& rows, const void* panel, const int32_t* corrections, const float* factors,
                   int64_t columns, float* out, int64_t out_stride, bool add);
  double (*registers)(int64_t rounds);  // as in GemmKernel
};
constexpr int64_t kInt8Group = 96;

// One an instruction set; null where the CPU lacks it (VNNI for 512-bit vectors; tiles).
const Int8Kernel* int8_kernel_avx512();
const Int8Kernel* int8_kernel_amx();
// As proven() of gemm.h, against VNNI, which this machine must have.
bool proven(const Int8Kernel& kernel);
// The one to use, or null.
const Int8Kernel* int8_kernel();

}  // namespace retort
