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
HOST_DEVICE inline float iq4_nl_value(const Iq4NlBlock& block, int i) {
  return load_half(block.scale) * iq4_level(i < 16 ? block.codes[i] & 15 : block.codes[i - 16] >> 4);
}
HOST_DEVICE inline float iq4_xs_value(const Iq4XsBlock& block, int i) {
  const int sub = i / 32;
  const int low = block.scales_low[sub / 2] >> (4 * (sub % 2)) & 15;
  const int high = load_u16(block.scales_high) >> (2 * sub) & 3;
  const uint8_t pair = block.codes[sub * 16 + i % 16];
  return load_half(block.scale) * static_cast<float>((low | high << 4) - 32) *
         iq4_level(i % 32 < 16 ? pair & 15 : pair >> 4);
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
