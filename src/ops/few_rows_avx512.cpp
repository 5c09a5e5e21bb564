#include "ops/few_rows.h"

#include <immintrin.h>

#include <cstring>

namespace retort {
namespace {

__attribute__((always_inline)) inline __m128i bytes16(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
__attribute__((always_inline)) inline __m256i bytes32(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
__attribute__((always_inline)) inline __mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}

// The first four bytes of up to 16 blocks.
template <int64_t kBytes>
__attribute__((always_inline)) inline __m512i heads(const std::byte* w, int64_t count) {
  const __m512i index = _mm512_mullo_epi32(
      _mm512_set1_epi32(kBytes), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), first(count), index, w, 1);
}
__attribute__((always_inline)) inline __m512 low_halves(__m512i heads) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads));
}
__attribute__((always_inline)) inline __m512 high_halves(__m512i heads) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(heads, 16)));
}

// 16 bytes of pairs each of two blocks -> 64 codes in order: low nibbles and high nibbles of the one, then of
// the other.
__attribute__((always_inline)) inline __m512i nibbles(__m128i a, __m128i b) {
  const __m512i both = _mm512_permutexvar_epi64(
      _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3),
      _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1)));
  const __m512i shifts = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
                                           0x0004000400040004, 0x0004000400040004);
  return _mm512_and_si512(_mm512_srlv_epi16(both, shifts), _mm512_set1_epi8(15));
}

// Each format: unsigned codes of two neighbouring blocks of 32, and value = scale * code + offset for 16
// blocks.
struct Q4_1 {
  static constexpr int64_t kBytes = 20;
  __attribute__((always_inline)) static __m512i pair(const std::byte* w, bool two) {
    return nibbles(bytes16(w + 4), two ? bytes16(w + kBytes + 4) : _mm_setzero_si128());
  }
  __attribute__((always_inline)) static void scales(const std::byte* w, int64_t count, __m512& scale,
                                                    __m512& offset) {
    const __m512i head = heads<kBytes>(w, count);
    scale = low_halves(head);
    offset = high_halves(head);
  }
};
struct Q4_0 {
  static constexpr int64_t kBytes = 18;
  __attribute__((always_inline)) static __m512i pair(const std::byte* w, bool two) {
    return nibbles(bytes16(w + 2), two ? bytes16(w + kBytes + 2) : _mm_setzero_si128());
  }
  __attribute__((always_inline)) static void scales(const std::byte* w, int64_t count, __m512& scale,
                                                    __m512& offset) {
    scale = low_halves(heads<kBytes>(w, count));
    offset = _mm512_mul_ps(scale, _mm512_set1_ps(-8.0f));
  }
};
struct Q8_0 {  // signed codes, shifted to be unsigned
  static constexpr int64_t kBytes = 34;
  __attribute__((always_inline)) static __m512i pair(const std::byte* w, bool two) {
    const __m512i codes = _mm512_inserti64x4(_mm512_castsi256_si512(bytes32(w + 2)),
                                             two ? bytes32(w + kBytes + 2) : _mm256_setzero_si256(), 1);
    return _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
  }
  __attribute__((always_inline)) static void scales(const std::byte* w, int64_t count, __m512& scale,
                                                    __m512& offset) {
    scale = low_halves(heads<kBytes>(w, count));
    offset = _mm512_mul_ps(scale, _mm512_set1_ps(-128.0f));
  }
};

// R rows of activations by one row of W.
template <class Format, int R, bool kThird>
__attribute__((noinline)) void dots(const std::byte* w, int64_t blocks, const SlicedRows& rows, int64_t row,
                                    float* out, int64_t out_stride) {
  __m512 sums[R], offsets[R], scales[R];
  for (int r = 0; r < R; ++r) sums[r] = offsets[r] = _mm512_setzero_ps();
  const int8_t *high = rows.high + row * rows.blocks * 32, *low = rows.low + row * rows.blocks * 32;
  for (int64_t chunk = 0; chunk < blocks; chunk += 16) {
    const int64_t count = blocks - chunk < 16 ? blocks - chunk : 16;
    __m512 scale, offset;
    Format::scales(w, count, scale, offset);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int64_t at = (row + r) * rows.blocks + chunk;
      scales[r] = _mm512_mul_ps(scale, _mm512_loadu_ps(rows.scale + at));
      offsets[r] = _mm512_fmadd_ps(offset, _mm512_loadu_ps(rows.sum + at), offsets[r]);
    }
    __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    for (int64_t p = 0; p < count; p += 2, w += 2 * Format::kBytes) {
      const __m512i codes = Format::pair(w, p + 1 < count);
      const int64_t at = (chunk + p) * 32;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes,
                                          _mm512_loadu_si512(high + r * rows.blocks * 32 + at));
        sum = _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, 8), codes,
                                  _mm512_loadu_si512(low + r * rows.blocks * 32 + at));
        __m512 value = _mm512_cvtepi32_ps(sum);
        if constexpr (kThird) {
          const __m512i last =
              _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes,
                                  _mm512_loadu_si512(rows.lowest + (row + r) * rows.blocks * 32 + at));
          value = _mm512_fmadd_ps(value, _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(last));
        }
        sums[r] = _mm512_fmadd_ps(value, _mm512_permutexvar_ps(lanes, scales[r]), sums[r]);
      }
      lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(2));
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) out[r * out_stride] = _mm512_reduce_add_ps(_mm512_add_ps(sums[r], offsets[r]));
}

template <class Format, bool kThird>
void multiply_format(const std::byte* w, int64_t row_bytes, int64_t count, int64_t columns,
                     const SlicedRows& rows, float* out, int64_t out_stride) {
  const int64_t blocks = columns / 32;
  for (int64_t i = 0; i < count; ++i, w += row_bytes) {
    int64_t row = 0;
    for (; row + 4 <= rows.m; row += 4)
      dots<Format, 4, kThird>(w, blocks, rows, row, out + row * out_stride + i, out_stride);
    if (row + 2 <= rows.m)
      dots<Format, 2, kThird>(w, blocks, rows, row, out + row * out_stride + i, out_stride), row += 2;
    if (row < rows.m) dots<Format, 1, kThird>(w, blocks, rows, row, out + row * out_stride + i, out_stride);
  }
}

bool supports(WeightType type) {
  return type == WeightType::q4_0 || type == WeightType::q4_1 || type == WeightType::q8_0;
}

template <bool kThird> void multiply_type(WeightType type, const std::byte* w, int64_t row_bytes,
                                          int64_t count, int64_t columns, const SlicedRows& rows, float* out,
                                          int64_t out_stride) {
  if (type == WeightType::q4_1)
    multiply_format<Q4_1, kThird>(w, row_bytes, count, columns, rows, out, out_stride);
  else if (type == WeightType::q4_0)
    multiply_format<Q4_0, kThird>(w, row_bytes, count, columns, rows, out, out_stride);
  else multiply_format<Q8_0, kThird>(w, row_bytes, count, columns, rows, out, out_stride);
}

void multiply(WeightType type, const std::byte* w, int64_t row_bytes, int64_t count, int64_t columns,
              const SlicedRows& rows, float* out, int64_t out_stride) {
  if (rows.lowest) multiply_type<true>(type, w, row_bytes, count, columns, rows, out, out_stride);
  else multiply_type<false>(type, w, row_bytes, count, columns, rows, out, out_stride);
}

// q = 256 * (what is returned) + the signed byte that is left in q.
__attribute__((always_inline)) inline __m512i cut(__m512i& q) {
  const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
  q = _mm512_sub_epi32(q, _mm512_slli_epi32(upper, 8));
  return upper;
}
__attribute__((always_inline)) inline void store_bytes(int8_t* p, __m512i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}

void slice(const float* x, int64_t elements, SlicedRows& rows, int64_t row) {
  for (int64_t b = 0; b < rows.blocks; ++b, x += 32) {
    const int64_t at = (row * rows.blocks + b) * 32;
    __m512 v[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (b * 32 < elements) v[0] = _mm512_loadu_ps(x), v[1] = _mm512_loadu_ps(x + 16);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])));
    const float scale = largest / (rows.lowest ? 127.0f * 65536 : 127.0f * 256);
    const __m512 inverse = _mm512_set1_ps(scale > 0 ? 1.0f / scale : 0.0f);
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < 2; ++i) {
      __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse));
      total = _mm512_add_epi32(total, q);
      if (rows.lowest) {
        const __m512i upper = cut(q);
        store_bytes(rows.lowest + at + 16 * i, q);
        q = upper;
      }
      store_bytes(rows.high + at + 16 * i, cut(q));
      store_bytes(rows.low + at + 16 * i, q);
    }
    // A NaN or an infinity among the activations stays one: maximum instructions and integers would lose it.
    const bool finite =
        _mm512_cmp_ps_mask(_mm512_sub_ps(v[0], v[0]), _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xFFFF &&
        _mm512_cmp_ps_mask(_mm512_sub_ps(v[1], v[1]), _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xFFFF;
    rows.scale[row * rows.blocks + b] = finite ? scale : __builtin_nanf("");
    rows.sum[row * rows.blocks + b] = scale * static_cast<float>(_mm512_reduce_add_epi32(total));
  }
}

}  // namespace

const FewRowsKernel* few_rows_avx512() {
  static constexpr FewRowsKernel kKernel = {supports, slice, multiply};
  const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
                    __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  return runs ? &kKernel : nullptr;
}

}  // namespace retort
