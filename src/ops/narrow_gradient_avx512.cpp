#include "ops/narrow_gradient.h"

#include <immintrin.h>

#include <cstring>

#include "ops/gemm_kernel.h"

namespace retort {
namespace {

// 32 columns of b at a time: two rows of one cache line each become two vectors of cells, with the columns of
// each 128 bits next to those of the same bits in the other; the store puts them in order.
struct Columns {
  int64_t first;
  uint32_t mask;  // which of them exist
};

template <bool kWhole>
__attribute__((always_inline)) inline __m512i load(const uint16_t* row, const Columns& columns) {
  if constexpr (kWhole) return _mm512_loadu_si512(row);
  else return _mm512_maskz_loadu_epi16(columns.mask, row);
}

// R columns of a, all of K in registers. `kAhead`: the same rows' next columns are fetched, which are read
// next.
template <int R, bool kWhole, bool kAhead>
__attribute__((noinline)) void tile(const NarrowProduct& product, int64_t row, const Columns& columns) {
  __m512 low[R], high[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) low[r] = high[r] = _mm512_setzero_ps();
  const auto* a = static_cast<const char*>(product.cells) + row * 4;
  const auto* b = product.b + columns.first;
  const auto stride = product.b_stride;
  const auto multiply = [&](__m512i even, __m512i odd) __attribute__((always_inline)) {
    const auto b_low = (__m512bh)_mm512_unpacklo_epi16(even, odd),
               b_high = (__m512bh)_mm512_unpackhi_epi16(even, odd);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      int32_t cell;
      std::memcpy(&cell, a + r * 4, 4);
      const auto both = (__m512bh)_mm512_set1_epi32(cell);
      low[r] = _mm512_dpbf16_ps(low[r], both, b_low);
      high[r] = _mm512_dpbf16_ps(high[r], both, b_high);
    }
  };
  for (auto step = product.k / 2; step > 0; --step, a += product.cell_row_bytes, b += 2 * stride) {
    if constexpr (kAhead) {
      __builtin_prefetch(b + kNarrowStep);
      __builtin_prefetch(b + stride + kNarrowStep);
    }
    multiply(load<kWhole>(b, columns), load<kWhole>(b + stride, columns));
  }
  if (product.k % 2 != 0) multiply(load<kWhole>(b, columns), _mm512_setzero_si512());
  const auto front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
             back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const auto front_mask = static_cast<__mmask16>(columns.mask),
             back_mask = static_cast<__mmask16>(columns.mask >> 16);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    auto* out = product.out + (row + r) * product.out_stride + columns.first;
    auto x = _mm512_permutex2var_ps(low[r], front, high[r]),
         y = _mm512_permutex2var_ps(low[r], back, high[r]);
    if (product.add) {
      x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(front_mask, out));
      y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(back_mask, out + 16));
    }
    _mm512_mask_storeu_ps(out, front_mask, x);
    _mm512_mask_storeu_ps(out + 16, back_mask, y);
  }
}

template <int R, bool kWhole>
void one_tile(const NarrowProduct& product, int64_t& row, const Columns& columns) {
  if (kWhole && row == 0) tile<R, kWhole, true>(product, row, columns);
  else tile<R, kWhole, false>(product, row, columns);
  row += R;
}

template <bool kWhole> void all_rows(const NarrowProduct& product, const Columns& columns) {
  int64_t row = 0;
  while (row + 8 <= product.columns) one_tile<8, kWhole>(product, row, columns);
  if (row + 4 <= product.columns) one_tile<4, kWhole>(product, row, columns);
  if (row + 2 <= product.columns) one_tile<2, kWhole>(product, row, columns);
  if (row < product.columns) one_tile<1, kWhole>(product, row, columns);
}

void multiply(const NarrowProduct& product, int64_t first, int64_t count) {
  for (const auto end = first + count; first < end; first += kNarrowStep) {
    const auto left = end - first;
    if (left >= kNarrowStep) all_rows<true>(product, {first, ~uint32_t{0}});
    else all_rows<false>(product, {first, (uint32_t{1} << left) - 1});
  }
}

}  // namespace

NarrowKernel narrow_kernel_avx512_bf16() {
  return gemm_kernel_avx512_bf16() ? &multiply : nullptr;  // the same instructions are asked for there
}

}  // namespace retort
