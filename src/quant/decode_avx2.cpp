#include "quant/decode_lanes.h"
#include "quant/scaled_f8.h"

namespace retort {
namespace {

struct Lanes256 {
  __m256 low, high;
  struct Table {
    __m256 low, high;
  };

  static Lanes256 set1(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Lanes256 load(const uint8_t* p) {
    return {_mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
            _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32)))};
  }
  static __m128i upper_eight(__m128i bytes) { return _mm_srli_si128(bytes, 8); }
  static Lanes256 from_u8(__m128i bytes) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(upper_eight(bytes)))};
  }
  static Lanes256 from_i8(__m128i bytes) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(upper_eight(bytes)))};
  }
  static __m256 eight_bf16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Lanes256 from_bf16(const uint8_t* p) {
    return {eight_bf16(bytes16(p)), eight_bf16(bytes16(p + 16))};
  }
  static __m256 eight_halves(
      __m128i halves) {  // the instruction quiets NaNs, half_to_float does not: NaNs go by integer
    const __m256i wide = _mm256_cvtepu16_epi32(halves);
    const __m256i nan =
        _mm256_cmpgt_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x7FFF)), _mm256_set1_epi32(0x7C00));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x8000)), 16);
    const __m256i payload = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x3FF)), 13);
    const __m256i nans = _mm256_or_si256(_mm256_or_si256(sign, payload), _mm256_set1_epi32(0x7F800000));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(_mm256_castps_si256(_mm256_cvtph_ps(halves)), nans, nan));
  }
  static Lanes256 from_half(const uint8_t* p) {
    return {eight_halves(bytes16(p)), eight_halves(bytes16(p + 16))};
  }
  static Table table(const float* sixteen) {
    return {_mm256_loadu_ps(sixteen), _mm256_loadu_ps(sixteen + 8)};
  }
  Table table() const { return {low, high}; }
  static Lanes256 gather(const float* values, const int32_t* index) {
    const auto eight = [&](const int32_t* at) __attribute__((always_inline)) {
      return _mm256_i32gather_ps(values, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), 4);
    };
    return {eight(index), eight(index + 8)};
  }
  static __m256 eight_of(const Table& table,
                         __m256i codes) {  // bit 3 of a code, moved to the sign, picks the half of the table
    const __m256 picks_high = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, codes),
                            _mm256_permutevar8x32_ps(table.high, codes), picks_high);
  }
  static Lanes256 lookup(const Table& table, __m128i codes) {
    return {eight_of(table, _mm256_cvtepu8_epi32(codes)),
            eight_of(table, _mm256_cvtepu8_epi32(upper_eight(codes)))};
  }

  void store(float* out) const {
    _mm256_storeu_ps(out, low);
    _mm256_storeu_ps(out + 8, high);
  }
  static __m256i rounded_bf16(__m256 v) {
    const __m256i bits = _mm256_castps_si256(v), nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(64));
    return _mm256_blendv_epi8(rounded, quiet, nan);
  }
  void store(uint16_t* out) const {
    const __m256i packed =
        _mm256_packus_epi32(rounded_bf16(low), rounded_bf16(high));  // in the order 0 2 1 3 of quarters
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(packed, 0xD8));
  }
  friend Lanes256 multiply(const Lanes256& a, const Lanes256& b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  friend Lanes256 add(const Lanes256& a, const Lanes256& b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  friend Lanes256 subtract(const Lanes256& a, const Lanes256& b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
};

// A code is sign, four bits of exponent e, three of mantissa m. Its low nibble is the exponent's last bit and
// the mantissa: a whole number from 0 to 30, to be multiplied with a power of four that the high nibble
// knows, sign included. (8 + m) 2^(e - 10), or m 2^-9 where e is 0.
constexpr float kF8Powers[16] = {0x1p-10f, 0x1p-8f, 0x1p-6f,   0x1p-4f,  0x1p-2f,  0x1p0f,
                                 0x1p2f,   0x1p4f,  -0x1p-10f, -0x1p-8f, -0x1p-6f, -0x1p-4f,
                                 -0x1p-2f, -0x1p0f, -0x1p2f,   -0x1p4f};

__m256 nan_where(__m256 values, __m128i eight_masks) {
  return _mm256_or_ps(values, _mm256_castsi256_ps(_mm256_cvtepi8_epi32(eight_masks)));
}

Lanes256 sixteen_f8(__m128i codes, const Lanes256::Table& powers, const Lanes256& scale) {
  const __m128i whole = _mm_shuffle_epi8(
      _mm_setr_epi8(8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30), low_nibbles(codes));
  const __m128i small = _mm_and_si128(_mm_add_epi8(codes, codes), _mm_set1_epi8(15));  // 2 m
  const __m128i subnormal = _mm_cmpeq_epi8(_mm_and_si128(codes, _mm_set1_epi8(0x78)), _mm_setzero_si128());
  const __m128i none = _mm_cmpeq_epi8(_mm_and_si128(codes, _mm_set1_epi8(0x7F)), _mm_set1_epi8(0x7F));
  auto values = multiply(multiply(Lanes256::from_u8(_mm_blendv_epi8(whole, small, subnormal)),
                                  Lanes256::lookup(powers, high_nibbles(codes))),
                         scale);
  values.low = nan_where(values.low, none);
  values.high = nan_where(values.high, Lanes256::upper_eight(none));
  return values;
}

template <class Out> void f8_lanes(const uint8_t* in, int64_t in_stride, float scale, Out* out,
                                   int64_t out_stride, int64_t rows, int64_t count) {
  const auto powers = Lanes256::table(kF8Powers);
  const auto factor = Lanes256::set1(scale);
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) sixteen_f8(bytes16(in + i), powers, factor).store(out + i);
    if (i == count) continue;
    uint8_t rest[16] = {};
    Out decoded[16];
    __builtin_memcpy(rest, in + i, static_cast<size_t>(count - i));
    sixteen_f8(bytes16(rest), powers, factor).store(decoded);
    __builtin_memcpy(out + i, decoded, static_cast<size_t>(count - i) * sizeof(Out));
  }
}

// The bfloat16 of a code times a scale, where none of them is subnormal or too large: the rounded product
// with another exponent has the same mantissa, so that there are 8 of them and the 7 subnormal codes'. Low
// and high bytes of the words apart, in both halves of a vector; e is added to a word's exponent.
struct F8Mantissas {
  __m256i low, high;

  explicit F8Mantissas(float scale) {
    alignas(32) uint8_t bytes[2][32];
    const auto values = multiply(Lanes256::load(reinterpret_cast<const uint8_t*>(kF8E4m3Magnitudes.data())),
                                 Lanes256::set1(scale));
    uint16_t words[16];  // of the codes 0 to 15, whose exponents are 0 and 1
    values.store(words);
    for (int i = 0; i < 32; ++i) {
      const int word = i % 16 < 8 ? words[i % 16 + 8] - (1 << 7) : words[i % 16 - 8];
      bytes[0][i] = static_cast<uint8_t>(word), bytes[1][i] = static_cast<uint8_t>(word >> 8);
    }
    low = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes[0]));
    high = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes[1]));
  }
  static bool holds(float scale) {
    const float size = scale < 0 ? -scale : scale;
    return size >= 0x1p-110f && size <= 0x1p110f;
  }
  // 32 codes to two vectors of 16 words: of the lower eight codes in each half, and of the upper eight.
  __attribute__((always_inline)) void decode(__m256i codes, __m256i* lower, __m256i* upper) const {
    const auto all = [](int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); };
    const __m256i exponents = _mm256_and_si256(codes, all(0x78));
    const __m256i subnormal = _mm256_cmpeq_epi8(exponents, _mm256_setzero_si256());
    const __m256i index =
        _mm256_or_si256(_mm256_and_si256(codes, all(7)), _mm256_and_si256(subnormal, all(8)));
    // A code that is no number becomes 0xFFFF, which saturates.
    const __m256i none = _mm256_cmpeq_epi8(_mm256_or_si256(codes, all(0x80)), all(0xFF));
    const __m256i lows = _mm256_or_si256(_mm256_shuffle_epi8(low, index), none);
    const __m256i highs = _mm256_or_si256(
        _mm256_xor_si256(_mm256_shuffle_epi8(high, index), _mm256_and_si256(codes, all(0x80))), none);
    const __m256i zero = _mm256_setzero_si256();
    *lower = _mm256_adds_epu16(_mm256_unpacklo_epi8(lows, highs),
                               _mm256_slli_epi16(_mm256_unpacklo_epi8(exponents, zero), 4));
    *upper = _mm256_adds_epu16(_mm256_unpackhi_epi8(lows, highs),
                               _mm256_slli_epi16(_mm256_unpackhi_epi8(exponents, zero), 4));
  }
};

// Calls thirty_two(codes, out) for the codes of each row; the last ones of a row go through a buffer.
template <class Out, class Each>
__attribute__((always_inline)) inline void each_row_of_f8(const uint8_t* in, int64_t in_stride, Out* out,
                                                          int64_t out_stride, int64_t rows, int64_t count,
                                                          Each&& thirty_two) {
  const auto load = [](const uint8_t* from) __attribute__((always_inline)) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  };
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
    int64_t i = 0;
    for (; i + 32 <= count; i += 32) thirty_two(load(in + i), out + i);
    if (i == count) continue;
    uint8_t rest[32] = {};
    Out decoded[32];
    __builtin_memcpy(rest, in + i, static_cast<size_t>(count - i));
    thirty_two(load(rest), decoded);
    __builtin_memcpy(out + i, decoded, static_cast<size_t>(count - i) * sizeof(Out));
  }
}

void f8_words(const uint8_t* in, int64_t in_stride, float scale, uint16_t* out, int64_t out_stride,
              int64_t rows, int64_t count) {
  if (!F8Mantissas::holds(scale)) return f8_lanes(in, in_stride, scale, out, out_stride, rows, count);
  const F8Mantissas mantissas(scale);
  each_row_of_f8(in, in_stride, out, out_stride, rows, count, [&](__m256i codes, uint16_t* to) {
    __m256i first, second;
    mantissas.decode(_mm256_permute4x64_epi64(codes, 0xD8), &first, &second);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), first);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16), second);
  });
}

// An unscaled value is exact in bfloat16; its product with the scale is the one rounding.
void f8_floats(const uint8_t* in, int64_t in_stride, float scale, float* out, int64_t out_stride,
               int64_t rows, int64_t count) {
  const F8Mantissas mantissas(1);
  const __m256 factor = _mm256_set1_ps(scale);
  const __m256i zero = _mm256_setzero_si256(), even_then_odd = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  each_row_of_f8(in, in_stride, out, out_stride, rows, count, [&](__m256i codes, float* to) {
    __m256i words[2];
    mantissas.decode(_mm256_permutevar8x32_epi32(codes, even_then_odd), &words[0], &words[1]);
    for (int i = 0; i < 2; ++i, to += 16) {
      const __m256 low = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, words[i])),
                   high = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, words[i]));
      _mm256_storeu_ps(to, _mm256_mul_ps(low, factor));
      _mm256_storeu_ps(to + 8, _mm256_mul_ps(high, factor));
    }
  });
}

float largest_of(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

void encode_nf4(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks) {
  __m256 midpoints[15];
  for (int i = 0; i < 15; ++i) midpoints[i] = _mm256_set1_ps((kNf4Values[i] + kNf4Values[i + 1]) * 0.5f);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  const __m128i pack = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  for (int64_t b = 0; b < blocks; ++b, in += 64, codes += stride) {
    __m256 largest = _mm256_setzero_ps();
    for (int k = 0; k < 64; k += 8)
      largest =
          _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(in + k), magnitude), largest);  // a NaN keeps `largest`
    const float absmax = largest_of(largest);
    maxima[b] = absmax;
    const __m256 inverse = _mm256_set1_ps(absmax > 0.0f ? 1.0f / absmax : 0.0f);
    for (int k = 0; k < 64; k += 8) {
      const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(in + k), inverse);
      __m256i code = _mm256_setzero_si256();
      for (const __m256& midpoint : midpoints)
        code = _mm256_sub_epi32(code, _mm256_castps_si256(_mm256_cmp_ps(x, midpoint, _CMP_GT_OQ)));
      const __m128i low = _mm_shuffle_epi8(_mm256_castsi256_si128(code), pack),
                    high = _mm_shuffle_epi8(_mm256_extracti128_si256(code, 1), pack);
      const __m128i pairs =
          _mm_maddubs_epi16(_mm_unpacklo_epi32(low, high), _mm_set1_epi16(0x1001));  // even + 16 * odd
      const int four = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));
      __builtin_memcpy(codes + k / 2, &four, 4);
    }
  }
}

}  // namespace

extern const ScaleSearch kAvx2Search;  // k_search_avx2.cpp
extern const QuantPath kAvx2Path;
const QuantPath kAvx2Path = {"avx2",
                             decoder_of<Lanes256, float>,
                             decoder_of<Lanes256, uint16_t>,
                             decode_nf4_apart<Lanes256, float>,
                             decode_nf4_apart<Lanes256, uint16_t>,
                             encode_nf4,
                             &kAvx2Search,
                             f8_floats,
                             f8_words,
                             decode_code_groups_lanes<Lanes256, float>,
                             decode_code_groups_lanes<Lanes256, uint16_t>,
                             decode_scattered_lanes<Lanes256, float>,
                             decode_scattered_lanes<Lanes256, uint16_t>};

}  // namespace retort
