// The part of a matrix product that depends on the instruction set: a table of four functions. Panels are
// `width` columns of the right operand, [steps][vectors][lanes] 32-bit cells, a cell being one float or two
// consecutive bf16 of K. Nothing here is an inline function: files compiled for AVX include this (see
// tools/check_dispatch.py).
#pragma once
#include <cstdint>

namespace retort {

enum class Operand : uint8_t { f32, bf16 };

// One summand of a tile: rows of the left operand, read in place, times a panel.
struct GemmSegment {
  const void* a;  // row-major, of the kernel's operand type
  int64_t a_row_bytes;
  int64_t steps;  // cells of K: K floats, or (K + 1) / 2 pairs
  const void* panel;
};

// Where a tile goes: c = sum + add + bias.
struct GemmStore {
  void* c;
  int64_t c_row_bytes;
  Operand c_type;
  const float* add;  // partial sums of earlier segments, or null
  int64_t add_row_bytes;
  const float* bias;  // of these columns, or null
  int64_t columns;    // how many of the panel's columns exist
};

struct GemmKernel {
  const char* name;  // "avx512_bf16"
  Operand operand;
  int64_t pair;          // elements of K a cell: 1 or 2
  int64_t lanes, width;  // columns of a vector and of a full panel
  // rows of the segments' left operands by one panel of `store.columns` columns.
  void (*multiply)(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store);
  // Columns of the right operand, of operand type, into a panel; filled up with zeros to whole vectors and
  // cells. One vector of n <= lanes columns from rows [n][k] (as in y = x W^T), its cells `cell_row_bytes`
  // apart.
  void (*pack_rows)(const void* rows, int64_t row_bytes, int64_t n, int64_t k, void* vector,
                    int64_t cell_row_bytes);
  // n <= width columns from rows [k][n] (as in dx = dy W).
  void (*pack_columns)(const void* rows, int64_t row_bytes, int64_t k, int64_t n, void* panel);
  // The left operand of y = x^T z: [n][k] from rows [k][n], with rows of `out_row_bytes`, odd K padded with a
  // zero.
  void (*transpose)(const void* rows, int64_t row_bytes, int64_t k, int64_t n, void* out,
                    int64_t out_row_bytes);
  // `rounds` of multiply-adds on registers alone: the limit that a product is measured against. Returns how
  // many FLOP it did.
  double (*registers)(int64_t rounds);
  // Cells of K of a tile of AMX, of the kernels that have some; else 1. gemm() fills up both operands to
  // whole tiles with zeros, and lays rows of the left one where tiles are read from fastest (operands_of()).
  int64_t tile_cells = 1;
};

// One a file of that name; null where the CPU lacks the instructions.
const GemmKernel* gemm_kernel_portable();
const GemmKernel* gemm_kernel_avx2();
const GemmKernel* gemm_kernel_avx512();
const GemmKernel* gemm_kernel_avx512_bf16();
const GemmKernel* gemm_kernel_amx_bf16();

}  // namespace retort
