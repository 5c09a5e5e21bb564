// The decoding loops in steps of 16 elements, shared by the AVX2 and the AVX-512 file. `Lanes` is 16 floats:
// set1, from_u8 and from_i8 (16 bytes), from_half, from_bf16, load, lookup (16 floats of a table by 16 byte
// codes), multiply, add, subtract, and store to float or bfloat16. Everything has internal linkage: see
// paths.h.
#pragma once
#include "quant/blocks32.h"
#include "quant/int8_row.h"
#include "quant/k_blocks.h"
#include "quant/nf4.h"
#include "quant/paths.h"

#include <immintrin.h>

namespace retort {
namespace {

__attribute__((always_inline)) inline __m128i bytes16(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
__attribute__((always_inline)) inline __m128i low_nibbles(__m128i pairs) {
  return _mm_and_si128(pairs, _mm_set1_epi8(15));
}
__attribute__((always_inline)) inline __m128i high_nibbles(__m128i pairs) {
  return _mm_and_si128(_mm_srli_epi16(pairs, 4), _mm_set1_epi8(15));
}
__attribute__((always_inline)) inline float half_at(const uint8_t* p) {
  return _cvtsh_ss(static_cast<uint16_t>(p[0] | p[1] << 8));
}
__attribute__((always_inline)) inline float float_at(const uint8_t* p) {
  float value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

// 16 bits to 16 bytes of 0 or 16.
__attribute__((always_inline)) inline __m128i fifth_bits(const uint8_t* two_bytes) {
  const __m128i spread = _mm_shuffle_epi8(_mm_cvtsi32_si128(two_bytes[0] | two_bytes[1] << 8),
                                          _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const __m128i bit = _mm_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(spread, bit), bit), _mm_set1_epi8(16));
}

template <class Lanes, class Out> void decode_q4_0(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q4_0Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const Lanes scale = Lanes::set1(half_at(block->scale));
    const __m128i pairs = bytes16(block->codes), eight = _mm_set1_epi8(8);
    multiply(Lanes::from_i8(_mm_sub_epi8(low_nibbles(pairs), eight)), scale).store(out);
    multiply(Lanes::from_i8(_mm_sub_epi8(high_nibbles(pairs), eight)), scale).store(out + 16);
  }
}

template <class Lanes, class Out> void decode_q4_1(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q4_1Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const Lanes scale = Lanes::set1(half_at(block->scale)), minimum = Lanes::set1(half_at(block->minimum));
    const __m128i pairs = bytes16(block->codes);
    add(multiply(Lanes::from_u8(low_nibbles(pairs)), scale), minimum).store(out);
    add(multiply(Lanes::from_u8(high_nibbles(pairs)), scale), minimum).store(out + 16);
  }
}

template <class Lanes, class Out> void decode_q5_0(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q5_0Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const Lanes scale = Lanes::set1(half_at(block->scale));
    const __m128i pairs = bytes16(block->codes), sixteen = _mm_set1_epi8(16);
    const __m128i low = _mm_or_si128(low_nibbles(pairs), fifth_bits(block->high)),
                  high = _mm_or_si128(high_nibbles(pairs), fifth_bits(block->high + 2));
    multiply(Lanes::from_i8(_mm_sub_epi8(low, sixteen)), scale).store(out);
    multiply(Lanes::from_i8(_mm_sub_epi8(high, sixteen)), scale).store(out + 16);
  }
}

template <class Lanes, class Out> void decode_q5_1(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q5_1Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const Lanes scale = Lanes::set1(half_at(block->scale)), minimum = Lanes::set1(half_at(block->minimum));
    const __m128i pairs = bytes16(block->codes);
    add(multiply(Lanes::from_u8(_mm_or_si128(low_nibbles(pairs), fifth_bits(block->high))), scale), minimum)
        .store(out);
    add(multiply(Lanes::from_u8(_mm_or_si128(high_nibbles(pairs), fifth_bits(block->high + 2))), scale),
        minimum)
        .store(out + 16);
  }
}

template <class Lanes, class Out> void decode_q8_0(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q8_0Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 32) {
    const Lanes scale = Lanes::set1(half_at(block->scale));
    multiply(Lanes::from_i8(bytes16(block->codes)), scale).store(out);
    multiply(Lanes::from_i8(bytes16(block->codes + 16)), scale).store(out + 16);
  }
}

// The eight 6-bit scales and minima of Q4_K and Q5_K, times the block's halves.
struct SubScales {
  float scale[8], minimum[8];
};
__attribute__((always_inline)) inline SubScales sub_scales(const uint8_t* s, float scale, float minimum) {
  SubScales sub;
  for (int j = 0; j < 4; ++j) {
    sub.scale[j] = scale * static_cast<float>(s[j] & 63);
    sub.minimum[j] = minimum * static_cast<float>(s[j + 4] & 63);
    sub.scale[j + 4] = scale * static_cast<float>((s[j + 8] & 15) | (s[j] >> 6) << 4);
    sub.minimum[j + 4] = minimum * static_cast<float>((s[j + 8] >> 4) | (s[j + 4] >> 6) << 4);
  }
  return sub;
}

template <class Lanes, class Out> void decode_q4_k(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q4_KBlock*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block) {
    const SubScales sub = sub_scales(block->scales, half_at(block->scale), half_at(block->minimum));
    for (int j = 0; j < 8; j += 2, out += 64) {
      const Lanes scale0 = Lanes::set1(sub.scale[j]), minimum0 = Lanes::set1(sub.minimum[j]);
      const Lanes scale1 = Lanes::set1(sub.scale[j + 1]), minimum1 = Lanes::set1(sub.minimum[j + 1]);
      for (int k = 0; k < 32; k += 16) {
        const __m128i pairs = bytes16(block->codes + 16 * j + k);
        subtract(multiply(scale0, Lanes::from_u8(low_nibbles(pairs))), minimum0).store(out + k);
        subtract(multiply(scale1, Lanes::from_u8(high_nibbles(pairs))), minimum1).store(out + 32 + k);
      }
    }
  }
}

template <class Lanes, class Out> void decode_q5_k(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q5_KBlock*>(in);
  const __m128i sixteen = _mm_set1_epi8(16);
  for (int64_t b = 0; b < blocks; ++b, ++block) {
    const SubScales sub = sub_scales(block->scales, half_at(block->scale), half_at(block->minimum));
    for (int j = 0; j < 8; j += 2, out += 64) {
      const Lanes scale0 = Lanes::set1(sub.scale[j]), minimum0 = Lanes::set1(sub.minimum[j]);
      const Lanes scale1 = Lanes::set1(sub.scale[j + 1]), minimum1 = Lanes::set1(sub.minimum[j + 1]);
      const __m128i bit0 = _mm_set1_epi8(static_cast<char>(1 << j)),
                    bit1 = _mm_set1_epi8(static_cast<char>(2 << j));
      for (int k = 0; k < 32; k += 16) {
        const __m128i pairs = bytes16(block->codes + 16 * j + k), high = bytes16(block->high + k);
        const __m128i fifth0 = _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(high, bit0), bit0), sixteen);
        const __m128i fifth1 = _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(high, bit1), bit1), sixteen);
        subtract(multiply(scale0, Lanes::from_u8(_mm_or_si128(low_nibbles(pairs), fifth0))), minimum0)
            .store(out + k);
        subtract(multiply(scale1, Lanes::from_u8(_mm_or_si128(high_nibbles(pairs), fifth1))), minimum1)
            .store(out + 32 + k);
      }
    }
  }
}

template <class Lanes, class Out> void decode_q6_k(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Q6_KBlock*>(in);
  const __m128i bits = _mm_set1_epi8(0x30), bias = _mm_set1_epi8(32);
  for (int64_t b = 0; b < blocks; ++b, ++block) {
    const float scale = half_at(block->scale);
    for (int half = 0; half < 2; ++half, out += 128) {
      for (int k = 0; k < 32; k += 16) {
        const __m128i first = bytes16(block->low + 64 * half + k),
                      second = bytes16(block->low + 64 * half + 32 + k);
        const __m128i high = bytes16(block->high + 32 * half + k);
        const __m128i codes[4] = {
            _mm_or_si128(low_nibbles(first), _mm_and_si128(_mm_slli_epi16(high, 4), bits)),
            _mm_or_si128(low_nibbles(second), _mm_and_si128(_mm_slli_epi16(high, 2), bits)),
            _mm_or_si128(high_nibbles(first), _mm_and_si128(high, bits)),
            _mm_or_si128(high_nibbles(second), _mm_and_si128(_mm_srli_epi16(high, 2), bits))};
        for (int quarter = 0; quarter < 4; ++quarter) {
          const Lanes sub =
              Lanes::set1(scale * static_cast<float>(block->scales[8 * half + 2 * quarter + k / 16]));
          multiply(sub, Lanes::from_i8(_mm_sub_epi8(codes[quarter], bias))).store(out + 32 * quarter + k);
        }
      }
    }
  }
}

// 64 weights of NF4.
template <class Lanes, class Out>
__attribute__((always_inline)) inline void decode_nf4_block(const uint8_t* codes, const Lanes& absmax,
                                                            const typename Lanes::Table& table, Out* out) {
  for (int k = 0; k < 32; k += 16) {
    const __m128i pairs = bytes16(codes + k), low = low_nibbles(pairs), high = high_nibbles(pairs);
    multiply(Lanes::lookup(table, _mm_unpacklo_epi8(low, high)), absmax).store(out + 2 * k);
    multiply(Lanes::lookup(table, _mm_unpackhi_epi8(low, high)), absmax).store(out + 2 * k + 16);
  }
}

template <class Lanes, class Out> void decode_nf4(const std::byte* in, Out* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Nf4Block*>(in);
  const auto table = Lanes::table(kNf4Values);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 64)
    decode_nf4_block(block->codes, Lanes::set1(float_at(block->absmax)), table, out);
}

template <class Lanes, class Out>
void decode_nf4_apart(const uint8_t* codes, const float* maxima, Out* out, int64_t blocks) {
  const auto table = Lanes::table(kNf4Values);
  for (int64_t b = 0; b < blocks; ++b, codes += 32, out += 64)
    decode_nf4_block(codes, Lanes::set1(maxima[b]), table, out);
}

template <class Lanes, class Out> void decode_int8_row(const std::byte* in, Out* out, int64_t blocks) {
  const auto* row = reinterpret_cast<const uint8_t*>(in);
  const Lanes scale = Lanes::set1(float_at(row));
  for (int64_t i = 0; i < blocks * kInt8RowElements; i += 16)
    multiply(Lanes::from_i8(bytes16(row + kInt8RowHeader + i)), scale).store(out + i);
}

// Dense types: whole sixteens, then the rest through a small buffer.
template <class Lanes, class Out, int kBytes, Lanes (*kLoad)(const uint8_t*)>
void decode_dense(const std::byte* in, Out* out, int64_t count) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(in);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) kLoad(bytes + i * kBytes).store(out + i);
  if (i == count) return;
  uint8_t rest[16 * kBytes] = {};
  Out decoded[16];
  __builtin_memcpy(rest, bytes + i * kBytes, static_cast<size_t>((count - i) * kBytes));
  kLoad(rest).store(decoded);
  __builtin_memcpy(out + i, decoded, static_cast<size_t>(count - i) * sizeof(Out));
}

template <class Lanes, class Out> auto decoder_of(WeightType type)
    -> void (*)(const std::byte*, Out*, int64_t) {
  switch (type) {
    case WeightType::f32: return decode_dense<Lanes, Out, 4, Lanes::load>;
    case WeightType::f16: return decode_dense<Lanes, Out, 2, Lanes::from_half>;
    case WeightType::bf16: return decode_dense<Lanes, Out, 2, Lanes::from_bf16>;
    case WeightType::q4_0: return decode_q4_0<Lanes, Out>;
    case WeightType::q4_1: return decode_q4_1<Lanes, Out>;
    case WeightType::q5_0: return decode_q5_0<Lanes, Out>;
    case WeightType::q5_1: return decode_q5_1<Lanes, Out>;
    case WeightType::q8_0: return decode_q8_0<Lanes, Out>;
    case WeightType::q4_k: return decode_q4_k<Lanes, Out>;
    case WeightType::q5_k: return decode_q5_k<Lanes, Out>;
    case WeightType::q6_k: return decode_q6_k<Lanes, Out>;
    case WeightType::nf4: return decode_nf4<Lanes, Out>;
    case WeightType::int8_row: return decode_int8_row<Lanes, Out>;
    default: return nullptr;
  }
}

// Neighbours in one byte, the first of them in the low or in the high nibble: 16 bytes to 32 codes in order.
struct CodesInOrder {
  __m128i first, second;
};
__attribute__((always_inline)) inline CodesInOrder codes_in_order(__m128i pairs, bool high_first) {
  const __m128i low = low_nibbles(pairs), high = high_nibbles(pairs);
  const __m128i even = high_first ? high : low, odd = high_first ? low : high;
  return {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)};
}

// What is left of a group behind its last 32 goes through a buffer.
template <class Lanes, class Out>
void decode_code_groups_lanes(const CodeRun& run, int64_t groups, int64_t columns, Out* out) {
  const auto book = Lanes::load(reinterpret_cast<const uint8_t*>(run.book));
  const uint8_t* codes = run.codes;
  for (int64_t g = 0; g < groups; ++g) {
    const auto table =
        multiply(subtract(book, Lanes::set1(run.zeros ? run.zeros[g] : 0)), Lanes::set1(run.scales[g]))
            .table();
    int64_t i = columns;
    for (; i >= 32; i -= 32, codes += 16, out += 32) {
      const auto [first, second] = codes_in_order(bytes16(codes), run.high_first);
      Lanes::lookup(table, first).store(out);
      Lanes::lookup(table, second).store(out + 16);
    }
    if (i == 0) continue;
    uint8_t rest[16] = {};
    Out decoded[32];
    __builtin_memcpy(rest, codes, static_cast<size_t>(i / 2));
    const auto [first, second] = codes_in_order(bytes16(rest), run.high_first);
    Lanes::lookup(table, first).store(decoded);
    Lanes::lookup(table, second).store(decoded + 16);
    __builtin_memcpy(out, decoded, static_cast<size_t>(i) * sizeof(Out));
    codes += i / 2, out += i;
  }
}

template <class Lanes, class Out>
void decode_scattered_lanes(const ScatteredRun& run, int64_t count, Out* out) {
  const auto book = Lanes::load(reinterpret_cast<const uint8_t*>(run.book)).table();
  const auto sixteen = [&](__m128i codes, const int32_t* group_of, Out* to) __attribute__((always_inline)) {
    multiply(subtract(Lanes::lookup(book, codes), Lanes::gather(run.zeros, group_of)),
             Lanes::gather(run.scales, group_of))
        .store(to);
  };
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const auto [first, second] = codes_in_order(bytes16(run.codes + i / 2), run.high_first);
    sixteen(first, run.group_of + i, out + i);
    sixteen(second, run.group_of + i + 16, out + i + 16);
  }
  if (i == count) return;
  uint8_t rest[16] = {};
  int32_t groups[32] = {};
  Out decoded[32];
  __builtin_memcpy(rest, run.codes + i / 2, static_cast<size_t>(count - i) / 2);
  __builtin_memcpy(groups, run.group_of + i, static_cast<size_t>(count - i) * 4);
  const auto [first, second] = codes_in_order(bytes16(rest), run.high_first);
  sixteen(first, groups, decoded);
  sixteen(second, groups + 16, decoded + 16);
  __builtin_memcpy(out + i, decoded, static_cast<size_t>(count - i) * sizeof(Out));
}

}  // namespace
}  // namespace retort
