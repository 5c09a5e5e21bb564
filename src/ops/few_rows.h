// Products with few rows (generation): y = x W^T straight from quantized blocks, one read of the matrix and
// no packing. Activations become integers cut into slices of 8 bits, with one scale in 32: two slices for
// bf16 activations, three for fp32, whose 23 bits they keep; codes times slices are exact integers (VNNI).
// Nothing here is an inline function: a file compiled for AVX-512 includes this.
#pragma once
#include <cstddef>
#include <cstdint>

#include "quant/types.h"

namespace retort {

// m rows of activations, 32 elements a block, `blocks` a multiple of 16 (zeros at the end).
struct SlicedRows {
  int64_t m, blocks;
  int8_t *high, *low;  // [m][32 * blocks]: q = 256 * high + low, and with a third slice 256 * that + lowest
  int8_t* lowest;      // or null
  float *scale, *sum;  // [m][blocks]: x = scale * q, and scale * (sum of q)
};

struct FewRowsKernel {
  bool (*supports)(WeightType type);
  void (*slice)(const float* x, int64_t elements, SlicedRows& rows, int64_t row);
  // out[i * out_stride + r] = x_i . W_r for r in [0, count) rows of W, `columns` wide and `row_bytes` apart.
  void (*multiply)(WeightType type, const std::byte* w, int64_t row_bytes, int64_t count, int64_t columns,
                   const SlicedRows& rows, float* out, int64_t out_stride);
};

// Null where the CPU lacks VNNI for 512-bit vectors.
const FewRowsKernel* few_rows_avx512();

}  // namespace retort
