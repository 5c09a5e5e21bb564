// Our own matrix product: C = sum over terms of A_i B_i, where B is decoded from whatever is stored while it
// is packed for the micro-kernel. y = x W^T + u (s B)^T is one product of two terms, and so is dx = dy W + v
// A: the same stored matrix, transposed by the packer. Sums are fp32 and run over K in one order, whatever
// the number of threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/gemm_kernel.h"
#include "quant/packed4.h"
#include "quant/scaled_f8.h"
#include "quant/types.h"

namespace retort {

// A stored matrix [rows, columns] of any type. As the right operand it is B = W^T (K = columns, N = rows), or
// with `transposed` B = W (K = rows, N = columns).
struct GemmMatrix {
  WeightType type = WeightType::f32;
  const std::byte* data = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t row_bytes = 0;  // from one row to the next
  bool transposed = false;
  float scale = 1;         // other than 1 for fp32 matrices alone: B = scale * W^T
  ScaleGrid grid = {};     // of F8_E4M3 matrices
  CodeGroups groups = {};  // of matrices of 4-bit codes

  int64_t k() const { return transposed ? rows : columns; }
  int64_t n() const { return transposed ? columns : rows; }
};
GemmMatrix gemm_matrix(const float* data, int64_t rows, int64_t columns, bool transposed, float scale = 1);
GemmMatrix gemm_matrix_bf16(const uint16_t* data, int64_t rows, int64_t columns, bool transposed);

// Rows of the left operand, read in place: [M, K] of `type`, `stride` elements apart.
struct GemmRows {
  const void* data = nullptr;
  int64_t stride = 0;
  Operand type = Operand::f32;
};

struct GemmTerm {
  GemmRows a;
  GemmMatrix b;
  // Not null: this product runs on 8-bit integers (int8_gemm.h), each row of the stored matrix divided by its
  // scale, largest magnitude / 127.
  const float* int8_scales = nullptr;
};

struct GemmOutput {
  void* data = nullptr;
  int64_t stride = 0;  // elements
  Operand type = Operand::f32;
  const float* bias = nullptr;  // [N]
  bool add = false;             // to what is there; fp32 output alone
};

// M rows, all terms of equal N. Splits over LibTorch's inner threads when there are any: rows where there are
// many, else columns.
void gemm(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, const GemmOutput& out);

// out[na, nb] = a^T b over K rows of activations; a [K, na], b [K, nb], operands of the same type, out fp32
// (added to with out.add): gradients of matrices.
void gemm_transposed(const GemmKernel& kernel, GemmRows a, int64_t na, GemmRows b, int64_t nb, int64_t k,
                     const GemmOutput& out);

// Bytes that a team of so many threads keeps after a product of m rows [m, k] with n columns: copies of rows
// that the kernel does not read where they lie, as tiles do where rows collide in the caches.
int64_t copied_bytes(const GemmKernel& kernel, int64_t m, int64_t k, int64_t n, int64_t threads);

// Products of at most so many rows with a matrix of this type sum in another order (few_rows.h) than those of
// more, none of whose rows depends on the others; 0: there is no such difference.
int64_t few_rows_limit(WeightType type);

// The pieces, for operations that fuse something between packing and storing (attention, the head with its
// loss). Panels of B's columns [first, first + count); panel p begins at panels + p * panel_bytes(kernel, k,
// kernel.width), and the last one is narrower where count is not a multiple of kernel.width. `panels` is
// 64-byte aligned and holds panel_bytes(kernel, k, count).
int64_t panel_bytes(const GemmKernel& kernel, int64_t k, int64_t count);
void pack_panels(const GemmKernel& kernel, const GemmMatrix& b, int64_t first, int64_t count,
                 std::byte* panels);
// out[m, count] of the term A [m, k] times these panels; A of the kernel's operand type; with K odd and a
// bf16 kernel, A's rows have a readable finite element after the last. One thread.
void multiply_panels(const GemmKernel& kernel, GemmRows a, int64_t m, int64_t k, const std::byte* panels,
                     int64_t count, const GemmOutput& out);

// The same on 8-bit integers, for a transposed matrix whose N is a multiple of 16 and a kernel of 16 lanes: W
// as panels, which are this thread's until its next gemm(), and out[m, N] += A W.
struct Int8Panels {
  int64_t k, n;
  const float* scales;  // of W's rows
  const std::byte* panels;
  const int32_t* corrections;
};
Int8Panels pack_int8_panels(const GemmKernel& kernel, const GemmMatrix& b, const float* scales);
void add_int8_product(const GemmKernel& kernel, GemmRows a, int64_t m, const Int8Panels& w, float* out,
                      int64_t stride);

// Whether a kernel gives the portable one's bits for a product of small integers. No machine that retort was
// written on has tiles: those are asked for it before they are used.
bool proven(const GemmKernel& kernel);

// Every kernel that this machine can run, fastest instruction set first.
std::span<const GemmKernel* const> gemm_kernels();
// The one that products of activations of this type use: for bf16 the faster of bf16 arithmetic and fp32
// arithmetic on widened operands, by a measurement of some milliseconds at the first call.
const GemmKernel& gemm_kernel(Operand activations);

// GFLOP/s of one thread, measured once at the first call (20 ms a kernel): a product with its operands in
// cache, and multiply-adds on registers alone, which is the peak that shares are given of.
struct GemmSpeed {
  const GemmKernel* kernel;
  double product, peak;
};
std::span<const GemmSpeed> gemm_speeds();
const GemmSpeed& gemm_speed(const GemmKernel& kernel);

}  // namespace retort
