#include "quant/decode_lanes.h"
#include "quant/scaled_f8.h"

namespace retort {
namespace {

struct Lanes512 {
  __m512 v;
  struct Table {
    __m512 values;
  };

  static Lanes512 set1(float value) { return {_mm512_set1_ps(value)}; }
  static Lanes512 load(const uint8_t* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes512 from_u8(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))}; }
  static Lanes512 from_i8(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))}; }
  static Lanes512 from_bf16(const uint8_t* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16))};
  }
  static Lanes512 from_half(
      const uint8_t* p) {  // the instruction quiets NaNs, half_to_float does not: NaNs go by integer
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m512i wide = _mm512_cvtepu16_epi32(halves);
    const __mmask16 nan =
        _mm512_cmpgt_epi32_mask(_mm512_and_si512(wide, _mm512_set1_epi32(0x7FFF)), _mm512_set1_epi32(0x7C00));
    const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(wide, _mm512_set1_epi32(0x8000)), 16);
    const __m512i payload = _mm512_slli_epi32(_mm512_and_si512(wide, _mm512_set1_epi32(0x3FF)), 13);
    const __m512i nans = _mm512_or_si512(_mm512_or_si512(sign, payload), _mm512_set1_epi32(0x7F800000));
    return {
        _mm512_castsi512_ps(_mm512_mask_mov_epi32(_mm512_castps_si512(_mm512_cvtph_ps(halves)), nan, nans))};
  }
  static Table table(const float* sixteen) { return {_mm512_loadu_ps(sixteen)}; }
  Table table() const { return {v}; }
  static Lanes512 gather(const float* values, const int32_t* index) {
    return {_mm512_i32gather_ps(_mm512_loadu_si512(index), values, 4)};
  }
  static Lanes512 lookup(const Table& table, __m128i codes) {
    return {_mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), table.values)};
  }

  void store(float* out) const { _mm512_storeu_ps(out, v); }
  void store(
      uint16_t* out) const {  // to nearest even in integers: the bf16 instruction would flush subnormals
    const __m512i bits = _mm512_castps_si512(v);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet)));
  }
  friend Lanes512 multiply(const Lanes512& a, const Lanes512& b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Lanes512 add(const Lanes512& a, const Lanes512& b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Lanes512 subtract(const Lanes512& a, const Lanes512& b) { return {_mm512_sub_ps(a.v, b.v)}; }
};

// Types with 16 values a block: the values once in bfloat16, then 32 codes at a time by one permutation of
// words.
__attribute__((always_inline)) inline __m512i word_table(Lanes512 values) {
  uint16_t words[16];
  values.store(words);
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
}
__attribute__((always_inline)) inline Lanes512 counting() {
  return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}
// Element j in the low nibble of byte j, j + 16 in the high one. The permutation looks at five bits, and the
// table repeats after 16.
__attribute__((always_inline)) inline void store_halves_apart(const uint8_t* codes, __m512i table,
                                                              uint16_t* out) {
  const __m256i low = _mm256_cvtepu8_epi16(bytes16(codes));
  const __m512i index = _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_srli_epi16(low, 4), 1);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(index, table));
}

void decode_q4_1_words(const std::byte* in, uint16_t* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q4_1Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const auto values = add(multiply(counting(), Lanes512::set1(half_at(block->scale))),
                            Lanes512::set1(half_at(block->minimum)));
    store_halves_apart(block->codes, word_table(values), out);
  }
}

void decode_q4_0_words(const std::byte* in, uint16_t* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q4_0Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32)
    store_halves_apart(
        block->codes,
        word_table(multiply(subtract(counting(), Lanes512::set1(8)), Lanes512::set1(half_at(block->scale)))),
        out);
}

// Neighbours in one byte: the low word of a 32-bit lane has the even element's code in its low bits, the high
// word the odd one's.
__attribute__((always_inline)) inline void nf4_words(const uint8_t* codes, float maximum, __m512 values,
                                                     uint16_t* out) {
  const __m512i table = word_table(multiply(Lanes512{values}, Lanes512::set1(maximum)));
  for (int k = 0; k < 32; k += 16, out += 32) {
    const __m512i pairs = _mm512_cvtepu8_epi32(bytes16(codes + k));
    _mm512_storeu_si512(
        out, _mm512_permutexvar_epi16(_mm512_or_si512(pairs, _mm512_slli_epi32(pairs, 12)), table));
  }
}

void decode_nf4_words(const std::byte* in, uint16_t* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Nf4Block*>(in);
  const __m512 values = _mm512_loadu_ps(kNf4Values);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 64)
    nf4_words(block->codes, float_at(block->absmax), values, out);
}

void decode_nf4_words_apart(const uint8_t* codes, const float* maxima, uint16_t* out, int64_t blocks) {
  const __m512 values = _mm512_loadu_ps(kNf4Values);
  for (int64_t b = 0; b < blocks; ++b, codes += 32, out += 64) nf4_words(codes, maxima[b], values, out);
}

// The permutation looks at the low five bits of a word, and the table repeats after 16.
void code_group_words(const CodeRun& run, int64_t groups, int64_t columns, uint16_t* out) {
  const Lanes512 book{_mm512_loadu_ps(run.book)};
  const uint8_t* codes = run.codes;
  for (int64_t g = 0; g < groups; ++g) {
    const __m512i table = word_table(multiply(subtract(book, Lanes512::set1(run.zeros ? run.zeros[g] : 0)),
                                              Lanes512::set1(run.scales[g])));
    const auto thirty_two = [&](__m128i bytes) __attribute__((always_inline)) {
      const __m512i pairs = _mm512_cvtepu8_epi32(bytes);
      const __m512i index = run.high_first
                                ? _mm512_or_si512(_mm512_srli_epi32(pairs, 4), _mm512_slli_epi32(pairs, 16))
                                : _mm512_or_si512(pairs, _mm512_slli_epi32(pairs, 12));
      return _mm512_permutexvar_epi16(index, table);
    };
    int64_t i = columns;
    for (; i >= 32; i -= 32, codes += 16, out += 32) _mm512_storeu_si512(out, thirty_two(bytes16(codes)));
    if (i == 0) continue;
    const auto half = static_cast<unsigned>(i / 2);
    const __m512i last = thirty_two(_mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << half) - 1), codes));
    _mm512_mask_storeu_epi16(out, static_cast<__mmask32>((1ull << i) - 1), last);
    codes += half, out += i;
  }
}

DecodeToBf16 word_decoder_of(WeightType type) {
  switch (type) {
    case WeightType::q4_0: return decode_q4_0_words;
    case WeightType::q4_1: return decode_q4_1_words;
    case WeightType::nf4: return decode_nf4_words;
    default: return decoder_of<Lanes512, uint16_t>(type);
  }
}

// The bfloat16 of every magnitude of F8_E4M3 times a scale, its low and high bytes apart: a permutation of
// bytes looks 64 codes up at a time, and does not see their signs.
struct F8Words {
  __m512i low[2], high[2];

  explicit F8Words(float scale) {
    __m512i words[4];
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half)
        multiply(Lanes512{_mm512_loadu_ps(kF8E4m3Magnitudes.data() + 32 * i + 16 * half)},
                 Lanes512::set1(scale))
            .store(reinterpret_cast<uint16_t*>(words + i) + 16 * half);
    alignas(64) uint8_t even[64];
    for (int i = 0; i < 64; ++i) even[i] = static_cast<uint8_t>(2 * i);
    const __m512i lower = _mm512_load_si512(even), upper = _mm512_or_si512(lower, _mm512_set1_epi8(1));
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_permutex2var_epi8(words[2 * i], lower, words[2 * i + 1]);
      high[i] = _mm512_permutex2var_epi8(words[2 * i], upper, words[2 * i + 1]);
    }
  }
  // 64 codes to two vectors of 32 words.
  __attribute__((always_inline)) void decode(__m512i codes, __m512i* first, __m512i* second) const {
    const __m512i lows = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    const __m512i highs = _mm512_xor_si512(_mm512_permutex2var_epi8(high[0], codes, high[1]),
                                           _mm512_and_si512(codes, _mm512_set1_epi8(-128)));
    const __m512i a = _mm512_unpacklo_epi8(lows, highs), b = _mm512_unpackhi_epi8(lows, highs);
    *first = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), b);
    *second = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), b);
  }
};

// Calls sixty_four(codes, out, mask) for the codes of each row; `mask` says which of them are of the row.
template <class Out, class Each>
__attribute__((always_inline)) inline void each_row_of_f8(const uint8_t* in, int64_t in_stride, Out* out,
                                                          int64_t out_stride, int64_t rows, int64_t count,
                                                          Each&& sixty_four) {
  const __mmask64 last = count % 64 == 0 ? 0 : _bzhi_u64(~0ull, static_cast<unsigned>(count % 64));
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride) {
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) sixty_four(_mm512_loadu_si512(in + i), out + i, ~__mmask64{0});
    if (last) sixty_four(_mm512_maskz_loadu_epi8(last, in + i), out + i, last);
  }
}

void f8_words(const uint8_t* in, int64_t in_stride, float scale, uint16_t* out, int64_t out_stride,
              int64_t rows, int64_t count) {
  const F8Words words(scale);
  each_row_of_f8(
      in, in_stride, out, out_stride, rows,
      count, [&](__m512i codes, uint16_t * to, __mmask64 mask) __attribute__((always_inline)) {
        __m512i first, second;
        words.decode(codes, &first, &second);
        _mm512_mask_storeu_epi16(to, static_cast<__mmask32>(mask), first);
        _mm512_mask_storeu_epi16(to + 32, static_cast<__mmask32>(mask >> 32), second);
      });
}

// An unscaled value is exact in bfloat16; its product with the scale is the one rounding.
void f8_floats(const uint8_t* in, int64_t in_stride, float scale, float* out, int64_t out_stride,
               int64_t rows, int64_t count) {
  const F8Words words(1);
  const __m512 factor = _mm512_set1_ps(scale);
  each_row_of_f8(
      in, in_stride, out, out_stride, rows,
      count, [&](__m512i codes, float* to, __mmask64 mask) __attribute__((always_inline)) {
        __m512i both[2];
        words.decode(codes, &both[0], &both[1]);
        const auto widened = [&](__m256i sixteen, int at) __attribute__((always_inline)) {
          const __m512 values = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(sixteen), 16));
          _mm512_mask_storeu_ps(to + at, static_cast<__mmask16>(mask >> at), _mm512_mul_ps(values, factor));
        };
        widened(_mm512_castsi512_si256(both[0]), 0);
        widened(_mm512_extracti64x4_epi64(both[0], 1), 16);
        widened(_mm512_castsi512_si256(both[1]), 32);
        widened(_mm512_extracti64x4_epi64(both[1], 1), 48);
      });
}

void encode_nf4(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks) {
  __m512 midpoints[15];
  for (int i = 0; i < 15; ++i) midpoints[i] = _mm512_set1_ps((kNf4Values[i] + kNf4Values[i + 1]) * 0.5f);
  for (int64_t b = 0; b < blocks; ++b, in += 64, codes += stride) {
    __m512 largest = _mm512_setzero_ps();
    for (int k = 0; k < 64; k += 16)
      largest = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(in + k)), largest);  // a NaN keeps `largest`
    const float absmax = _mm512_reduce_max_ps(largest);
    maxima[b] = absmax;
    const __m512 inverse = _mm512_set1_ps(absmax > 0.0f ? 1.0f / absmax : 0.0f);
    for (int k = 0; k < 64; k += 16) {
      const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(in + k), inverse);
      __m512i code = _mm512_setzero_si512();
      for (const __m512& midpoint : midpoints)
        code = _mm512_mask_add_epi32(code, _mm512_cmp_ps_mask(x, midpoint, _CMP_GT_OQ), code,
                                     _mm512_set1_epi32(1));
      const __m128i pairs =
          _mm_maddubs_epi16(_mm512_cvtepi32_epi8(code), _mm_set1_epi16(0x1001));  // even + 16 * odd
      _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + k / 2), _mm_packus_epi16(pairs, pairs));
    }
  }
}

}  // namespace

extern const ScaleSearch kAvx2Search;  // k_search_avx2.cpp
extern const QuantPath kAvx512Path;
const QuantPath kAvx512Path = {"avx512",
                               decoder_of<Lanes512, float>,
                               word_decoder_of,
                               decode_nf4_apart<Lanes512, float>,
                               decode_nf4_words_apart,
                               encode_nf4,
                               &kAvx2Search,
                               f8_floats,
                               f8_words,
                               decode_code_groups_lanes<Lanes512, float>,
                               code_group_words,
                               decode_scattered_lanes<Lanes512, float>,
                               decode_scattered_lanes<Lanes512, uint16_t>};

}  // namespace retort
