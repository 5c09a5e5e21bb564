// GGUF's IQ types: sub-blocks whose magnitudes come from a code book (a small grid of 4 or 8 element
// vectors), and the non-linear 4-bit types. Layout after ggml-common.h; decoding after dequantize_row_iq* of
// ggml-quants.c.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

struct Iq1SBlock {
  uint8_t scale[2], index[32], high[16];
};  // high: u16 per 32 elements
struct Iq1MBlock {
  uint8_t index[32], high[16], scales[8];
};  // the half scale hides in the top nibbles of `scales`
struct Iq2XxsBlock {
  uint8_t scale[2], codes[64];
};  // 8 bytes per 32 elements
struct Iq2XsBlock {
  uint8_t scale[2], codes[64], scales[8];
};  // u16 per 8 elements
struct Iq2SBlock {
  uint8_t scale[2], index[32], signs[32], high[8], scales[8];
};
struct Iq3XxsBlock {
  uint8_t scale[2], index[64], scales_and_signs[32];
};
struct Iq3SBlock {
  uint8_t scale[2], index[64], high[8], signs[32], scales[4];
};
struct Iq4NlBlock {
  uint8_t scale[2], codes[16];
};  // 32 elements
struct Iq4XsBlock {
  uint8_t scale[2], scales_high[2], scales_low[4], codes[128];
};
static_assert(sizeof(Iq1SBlock) == 50 && sizeof(Iq1MBlock) == 56 && sizeof(Iq2XxsBlock) == 66 &&
              sizeof(Iq2XsBlock) == 74);
static_assert(sizeof(Iq2SBlock) == 82 && sizeof(Iq3XxsBlock) == 98 && sizeof(Iq3SBlock) == 110);
static_assert(sizeof(Iq4NlBlock) == 18 && sizeof(Iq4XsBlock) == 136);

// code_book_tables.cpp. Level indices, 2 bits (8 elements an entry) or 3 bits (4 elements).
extern const uint16_t kIq1Book[2048];    // -1, 0, 1
extern const uint16_t kIq2XxsBook[256];  // 8, 25, 43
extern const uint16_t kIq2XsBook[512];
extern const uint16_t kIq2SBook[1024];
extern const uint16_t kIq3XxsBook[256];  // 4, 12, 20, 28, 36, 44, 52, 62
extern const uint16_t kIq3SBook[512];    // 1, 3, .., 15

// The 16 values of IQ4_NL and IQ4_XS.
HOST_DEVICE inline float iq4_level(int code) {
  constexpr int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return static_cast<float>(levels[code]);
}
HOST_DEVICE inline int iq4_nl_code(const Iq4NlBlock& block, int i) {
  return i < 16 ? block.codes[i] & 15 : block.codes[i - 16] >> 4;
}
HOST_DEVICE inline float iq4_nl_scale(const Iq4NlBlock& block, int) { return load_half(block.scale); }
HOST_DEVICE inline float iq4_nl_value(const Iq4NlBlock& block, int i) {
  return iq4_nl_scale(block, i) * iq4_level(iq4_nl_code(block, i));
}
HOST_DEVICE inline int iq4_xs_code(const Iq4XsBlock& block, int i) {
  const uint8_t pair = block.codes[i / 32 * 16 + i % 16];
  return i % 32 < 16 ? pair & 15 : pair >> 4;
}
HOST_DEVICE inline float iq4_xs_scale(const Iq4XsBlock& block, int i) {
  const int sub = i / 32;
  const int low = block.scales_low[sub / 2] >> (4 * (sub % 2)) & 15;
  const int high = load_u16(block.scales_high) >> (2 * sub) & 3;
  return load_half(block.scale) * static_cast<float>((low | high << 4) - 32);
}
HOST_DEVICE inline float iq4_xs_value(const Iq4XsBlock& block, int i) {
  return iq4_xs_scale(block, i) * iq4_level(iq4_xs_code(block, i));
}

// The other types in groups of eight elements: group g (0..31) of a block, by the type's book from above.
HOST_DEVICE inline float iq2_level(int index) {  // 8, 25, 43
  return static_cast<float>(8 + 17 * index + (index == 2 ? 1 : 0));
}
HOST_DEVICE inline float iq3_xxs_level(int index) {
  return static_cast<float>(4 + 8 * index + (index == 7 ? 2 : 0));
}
HOST_DEVICE inline float iq3_s_level(int index) { return static_cast<float>(1 + 2 * index); }

// Seven stored sign bits; the eighth makes their number even.
HOST_DEVICE inline int even_signs(uint32_t seven) {
  const uint32_t folded = (seven ^ seven >> 4) & 15;
  return static_cast<int>(seven | (0x6996u >> folded & 1) << 7);
}
// Eight elements of a 2-bit entry, one sign bit each.
HOST_DEVICE inline void iq2_put8(float scale, uint16_t entry, int signs, float* out) {
  for (int j = 0; j < 8; ++j) {
    const float magnitude = scale * iq2_level(entry >> (2 * j) & 3);
    out[j] = signs >> j & 1 ? -magnitude : magnitude;
  }
}
// Four elements of a 3-bit entry.
template <float (*kLevel)(int)>
HOST_DEVICE inline void iq3_put4(float scale, uint16_t entry, int signs, float* out) {
  for (int j = 0; j < 4; ++j) {
    const float magnitude = scale * kLevel(entry >> (3 * j) & 7);
    out[j] = signs >> j & 1 ? -magnitude : magnitude;
  }
}
// Levels -1, 0, 1, all of them shifted by an eighth.
HOST_DEVICE inline void iq1_put8(float scale, uint16_t entry, bool down, float* out) {
  const float shift = down ? -0.125f : 0.125f;
  for (int j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>((entry >> (2 * j) & 3) - 1) + shift);
}
// Scales of IQ2: (1/2 + nibble) / 4.
HOST_DEVICE inline float iq2_scale(float scale, int nibble) {
  return scale * (0.5f + static_cast<float>(nibble)) * 0.25f;
}

// 4 bytes of indices, then 4 * 7 sign bits and a 4-bit scale.
HOST_DEVICE inline void iq2_xxs_group(const Iq2XxsBlock& block, int g, const uint16_t* book, float* out) {
  const uint8_t* codes = block.codes + g / 4 * 8;
  const uint32_t rest = load_u32(codes + 4);
  iq2_put8(iq2_scale(load_half(block.scale), static_cast<int>(rest >> 28)), book[codes[g % 4]],
           even_signs(rest >> (g % 4 * 7) & 127), out);
}
// 9 bits of index, 7 of sign; a scale for two groups.
HOST_DEVICE inline void iq2_xs_group(const Iq2XsBlock& block, int g, const uint16_t* book, float* out) {
  const int code = load_u16(block.codes + 2 * g);
  iq2_put8(iq2_scale(load_half(block.scale), block.scales[g / 4] >> (g % 4 / 2 * 4) & 15), book[code & 511],
           even_signs(static_cast<uint32_t>(code >> 9)), out);
}
// 8 + 2 bits of index, 8 of sign.
HOST_DEVICE inline void iq2_s_group(const Iq2SBlock& block, int g, const uint16_t* book, float* out) {
  const int index = block.index[g] | (block.high[g / 4] >> (g % 4 * 2) & 3) << 8;
  iq2_put8(iq2_scale(load_half(block.scale), block.scales[g / 4] >> (g % 4 / 2 * 4) & 15), book[index],
           block.signs[g], out);
}
HOST_DEVICE inline void iq3_xxs_group(const Iq3XxsBlock& block, int g, const uint16_t* book, float* out) {
  const uint32_t rest = load_u32(block.scales_and_signs + g / 4 * 4);
  const float scale = load_half(block.scale) * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
  const int signs = even_signs(rest >> (g % 4 * 7) & 127);
  iq3_put4<iq3_xxs_level>(scale, book[block.index[2 * g]], signs, out);
  iq3_put4<iq3_xxs_level>(scale, book[block.index[2 * g + 1]], signs >> 4, out + 4);
}
HOST_DEVICE inline void iq3_s_group(const Iq3SBlock& block, int g, const uint16_t* book, float* out) {
  const float scale =
      load_half(block.scale) * static_cast<float>(1 + 2 * (block.scales[g / 8] >> (g / 4 % 2 * 4) & 15));
  for (int four = 2 * g; four < 2 * g + 2; ++four, out += 4) {
    const int index = block.index[four] | (block.high[four / 8] >> (four % 8) & 1) << 8;
    iq3_put4<iq3_s_level>(scale, book[index], block.signs[g] >> (four % 2 * 4), out);
  }
}
// high: 4 * 3 bits of index, 3 of scale, 1 of shift.
HOST_DEVICE inline void iq1_s_group(const Iq1SBlock& block, int g, const uint16_t* book, float* out) {
  const int high = load_u16(block.high + g / 4 * 2);
  const int index = block.index[g] | (high >> (g % 4 * 3) & 7) << 8;
  iq1_put8(load_half(block.scale) * static_cast<float>(2 * (high >> 12 & 7) + 1), book[index],
           (high & 0x8000) != 0, out);
}
// A nibble of `high`: 3 bits of index, 1 of shift; a 3-bit scale for two groups.
HOST_DEVICE inline void iq1_m_group(const Iq1MBlock& block, int g, const uint16_t* book, float* out) {
  int scale_bits = 0;
  for (int k = 0; k < 4; ++k) scale_bits |= (load_u16(block.scales + 2 * k) >> 12) << (4 * k);
  const int high = block.high[g / 2] >> (g % 2 * 4) & 15;
  const int index = block.index[g] | (high & 7) << 8;
  const int sub_scale = load_u16(block.scales + g / 8 * 2) >> (g % 8 / 2 * 3) & 7;
  iq1_put8(half_to_float(static_cast<uint16_t>(scale_bits)) * static_cast<float>(2 * sub_scale + 1),
           book[index], (high & 8) != 0, out);
}

void decode_iq1_s(const std::byte* in, float* out, int64_t blocks);
void decode_iq1_m(const std::byte* in, float* out, int64_t blocks);
void decode_iq2_xxs(const std::byte* in, float* out, int64_t blocks);
void decode_iq2_xs(const std::byte* in, float* out, int64_t blocks);
void decode_iq2_s(const std::byte* in, float* out, int64_t blocks);
void decode_iq3_xxs(const std::byte* in, float* out, int64_t blocks);
void decode_iq3_s(const std::byte* in, float* out, int64_t blocks);

// Blocks of 32 floats: weights x^2, 16 trial scales around the extreme element (the file quantizer of ggml).
struct ScaleSearch;
void encode_iq4_nl(const float* in, std::byte* out, int64_t blocks, const ScaleSearch& search);

}  // namespace retort
