#include "ops/int8_gemm.h"

#include <immintrin.h>

#include <cstring>

namespace retort {
namespace {

__attribute__((always_inline)) inline __mmask16 first(int64_t count) {
  return count >= 16 ? 0xFFFF : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}
__attribute__((always_inline)) inline __m512 widened(const uint16_t* p, __mmask16 mask) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
}

void quantize(const void* x, Operand type, const float* factors, Int8Rows& rows, int64_t row) {
  uint8_t* codes = rows.codes + row * rows.stride;
  const __m512i shift = _mm512_set1_epi32(128);
  for (int64_t g = 0; g < rows.groups; ++g) {
    __m512 values[kInt8Group / 16];
    __m512 largest = _mm512_setzero_ps();
#pragma GCC unroll 6
    for (int64_t i = 0; i < kInt8Group / 16; ++i) {
      const int64_t at = g * kInt8Group + i * 16;
      const __mmask16 mask = first(rows.k - at);
      __m512 v = type == Operand::f32 ? _mm512_maskz_loadu_ps(mask, static_cast<const float*>(x) + at)
                                      : widened(static_cast<const uint16_t*>(x) + at, mask);
      if (factors) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, factors + at));
      values[i] = v;
      largest = _mm512_max_ps(_mm512_abs_ps(v), largest);  // a NaN keeps `largest`
    }
    const float absmax = _mm512_reduce_max_ps(largest), inverse = absmax > 0 ? 127.0f / absmax : 0.0f;
    __mmask16 finite = 0xFFFF;
#pragma GCC unroll 6
    for (int64_t i = 0; i < kInt8Group / 16; ++i) {
      const int64_t at = g * kInt8Group + i * 16;
      finite &= _mm512_cmp_ps_mask(_mm512_sub_ps(values[i], values[i]), _mm512_setzero_ps(), _CMP_EQ_OQ);
      const __m512i code =
          _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(values[i], _mm512_set1_ps(inverse))), shift);
      _mm_mask_storeu_epi8(codes + at, first(rows.stride - at), _mm512_cvtepi32_epi8(code));
    }
    rows.scales[row * rows.groups + g] =
        finite == 0xFFFF ? absmax / 127.0f : __builtin_nanf("");  // integers would lose a NaN
  }
}

void encode(const uint16_t* bf16, float inverse, int64_t count, int8_t* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = first(count - i);
    const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(widened(bf16 + i, mask), _mm512_set1_ps(inverse)));
    _mm_mask_storeu_epi8(out + i, mask, _mm512_cvtsepi32_epi8(code));
  }
}

// Four rows of bytes woven into cells.
void pack_columns(const int8_t* rows, int64_t row_bytes, int64_t k, int64_t n, void* panel) {
  auto* to = static_cast<int8_t*>(panel);
  for (int64_t cell = 0; cell < (k + 3) / 4; ++cell)
    for (int64_t c = 0; c < n; c += 16, to += 64) {
      __m128i row[4];
      for (int64_t i = 0; i < 4; ++i)
        row[i] = cell * 4 + i < k ? _mm_maskz_loadu_epi8(first(n - c), rows + (cell * 4 + i) * row_bytes + c)
                                  : _mm_setzero_si128();
      const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]), high01 = _mm_unpackhi_epi8(row[0], row[1]);
      const __m128i low23 = _mm_unpacklo_epi8(row[2], row[3]), high23 = _mm_unpackhi_epi8(row[2], row[3]);
      auto* out = reinterpret_cast<__m128i*>(to);
      _mm_storeu_si128(out, _mm_unpacklo_epi16(low01, low23));
      _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(low01, low23));
      _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(high01, high23));
      _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(high01, high23));
    }
}

// Cells of 4 bytes are moved as the fp32 kernel moves floats.
void pack_rows(const int8_t* rows, int64_t row_bytes, int64_t n, int64_t k, void* vector,
               int64_t cell_row_bytes) {
  gemm_kernel_avx512()->pack_rows(rows, row_bytes, n, k / 4, vector, cell_row_bytes);
}

void corrections(const void* panel, int64_t k, int64_t columns, int32_t* out) {
  const auto* cells = static_cast<const int8_t*>(panel);
  const int64_t vectors = (columns + 15) / 16;
  for (int64_t begin = 0; begin < k; begin += kInt8Group, out += vectors * 16) {
    const int64_t count = ((k - begin < kInt8Group ? k - begin : kInt8Group) + 3) / 4;
    for (int64_t w = 0; w < vectors; ++w) {
      __m512i sum = _mm512_setzero_si512();
      for (int64_t i = 0; i < count; ++i)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1),
                                  _mm512_loadu_si512(cells + ((begin / 4 + i) * vectors + w) * 64));
      _mm512_storeu_si512(out + w * 16, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7)));
    }
  }
}

// Kept out of the tile, as in gemm_body.h: its choices would cost the tile half of its registers.
__attribute__((noinline)) void store_tile(const __m512* sums, int64_t rows, int64_t vectors,
                                          const float* factors, float* out, int64_t out_stride, bool add) {
  for (int64_t r = 0; r < rows; ++r, out += out_stride)
    for (int64_t w = 0; w < vectors; ++w) {
      __m512 v = *sums++;
      if (factors) v = _mm512_mul_ps(v, _mm512_loadu_ps(factors + w * 16));
      if (add) v = _mm512_add_ps(v, _mm512_loadu_ps(out + w * 16));
      _mm512_storeu_ps(out + w * 16, v);
    }
}

// Sums of a group in registers, sums of groups in this thread's stack: with both in registers a tile of 4
// rows is the most, and reads its panel twice as often.
template <int R, int W> __attribute__((noinline)) void tile(const Int8Rows& rows, int64_t row,
                                                            const int8_t* panel, const int32_t* corrections,
                                                            const float* factors, float* out,
                                                            int64_t out_stride, bool add) {
  __m512 sums[R][W] = {};
  const uint8_t* a = rows.codes + row * rows.stride;
  const float* scales = rows.scales + row * rows.groups;
  const int64_t stride = rows.stride;
  for (int64_t g = 0; g < rows.groups; ++g, ++scales, corrections += W * 16) {
    __m512i exact[R][W];
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) exact[r][w] = _mm512_loadu_si512(corrections + w * 16);
    const auto multiply_cells = [&](int64_t cells) __attribute__((always_inline)) {
#pragma GCC unroll 1
      for (int64_t i = 0; i < cells; ++i, a += 4, panel += W * 64) {
        __m512i b[W];
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) b[w] = _mm512_loadu_si512(panel + w * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          int32_t cell;
          std::memcpy(&cell, a + r * stride, 4);
          const __m512i broadcast = _mm512_set1_epi32(cell);
#pragma GCC unroll 4
          for (int w = 0; w < W; ++w)
            asm("vpdpbusd %2, %1, %0"
                : "+v"(exact[r][w])
                : "v"(broadcast), "v"(b[w]));  // the intrinsic makes GCC 12 spill
        }
      }
    };
    const int64_t left = rows.stride - g * kInt8Group;
    if (left >= kInt8Group) multiply_cells(kInt8Group / 4);  // a count that the compiler knows
    else multiply_cells(left / 4);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(scales[r * rows.groups]);
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w)
        sums[r][w] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[r][w]), scale, sums[r][w]);
    }
  }
  store_tile(&sums[0][0], R, W, factors, out + row * out_stride, out_stride, add);
}

template <int W> void multiply_panel(const Int8Rows& rows, const int8_t* panel, const int32_t* corrections,
                                     const float* factors, float* out, int64_t out_stride, bool add) {
  int64_t row = 0;
  for (; row + 8 <= rows.m; row += 8)
    tile<8, W>(rows, row, panel, corrections, factors, out, out_stride, add);
  if (row + 4 <= rows.m) tile<4, W>(rows, row, panel, corrections, factors, out, out_stride, add), row += 4;
  for (; row < rows.m; ++row) tile<1, W>(rows, row, panel, corrections, factors, out, out_stride, add);
}

// The last panel's factors may end before its last vector.
void multiply(const Int8Rows& rows, const void* panel, const int32_t* corrections, const float* factors,
              int64_t columns, float* out, int64_t out_stride, bool add) {
  const auto* cells = static_cast<const int8_t*>(panel);
  float padded[48] = {};
  if (factors) {
    for (int64_t c = 0; c < 48; c += 16)
      _mm512_storeu_ps(padded + c, _mm512_maskz_loadu_ps(first(columns - c), factors + c));
    factors = padded;
  }
  if (columns > 32) multiply_panel<3>(rows, cells, corrections, factors, out, out_stride, add);
  else if (columns > 16) multiply_panel<2>(rows, cells, corrections, factors, out, out_stride, add);
  else multiply_panel<1>(rows, cells, corrections, factors, out, out_stride, add);
}

// In words of the assembler: GCC 12 would spill the sums.
__attribute__((noinline)) double registers(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(
        "vpdpbusd %%zmm31, %%zmm30, %%zmm0\n vpdpbusd %%zmm31, %%zmm30, %%zmm1\n vpdpbusd %%zmm31, %%zmm30, "
        "%%zmm2\n vpdpbusd %%zmm31, %%zmm30, %%zmm3\n"
        "vpdpbusd %%zmm31, %%zmm30, %%zmm4\n vpdpbusd %%zmm31, %%zmm30, %%zmm5\n vpdpbusd %%zmm31, %%zmm30, "
        "%%zmm6\n vpdpbusd %%zmm31, %%zmm30, %%zmm7\n"
        "vpdpbusd %%zmm31, %%zmm30, %%zmm8\n vpdpbusd %%zmm31, %%zmm30, %%zmm9\n vpdpbusd %%zmm31, %%zmm30, "
        "%%zmm10\n vpdpbusd %%zmm31, %%zmm30, %%zmm11\n"
        "vpdpbusd %%zmm31, %%zmm30, %%zmm12\n vpdpbusd %%zmm31, %%zmm30, %%zmm13\n vpdpbusd %%zmm31, "
        "%%zmm30, %%zmm14\n vpdpbusd %%zmm31, %%zmm30, %%zmm15\n"
        :
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
          "xmm12", "xmm13", "xmm14", "xmm15", "xmm30", "xmm31");
  return static_cast<double>(rounds) * 16 * 128;
}

}  // namespace

const Int8Kernel* int8_kernel_avx512() {
  static constexpr Int8Kernel kKernel = {quantize,    encode,   pack_rows, pack_columns,
                                         corrections, multiply, registers};
  return gemm_kernel_avx512() ? &kKernel : nullptr;  // the same instructions are asked for there
}

}  // namespace retort
