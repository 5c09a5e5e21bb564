// Gradients of matrices of few rows, an adapter's: out[na, nb] = a^T b over K rows of activations, where a
// has few columns. Panels of b would be packed to be read once or twice; here its rows are paired in
// registers. Each number is summed in the order of gemm_transposed()'s panels, so that the bits are the same.
#pragma once
#include <cstdint>

namespace retort {

struct NarrowProduct {
  const void* cells;  // of a: [pairs of rows][cell_row_bytes], as GemmKernel::pack_columns() lays them
  int64_t cell_row_bytes;
  int64_t columns;    // of a
  const uint16_t* b;  // bf16 [k][b_stride]
  int64_t b_stride, k;
  float* out;  // [columns][out_stride]
  int64_t out_stride;
  bool add;  // to what is there
};

// Of the result's columns [first, first + count), `first` a multiple of kNarrowStep.
using NarrowKernel = void (*)(const NarrowProduct& product, int64_t first, int64_t count);
constexpr int64_t kNarrowStep = 32;

// Null where the CPU lacks AVX-512 with bf16.
NarrowKernel narrow_kernel_avx512_bf16();

}  // namespace retort
