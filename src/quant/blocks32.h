// GGUF types of 32 elements a block: layout and scalar arithmetic (ggml's Q4_0 .. Q8_1).
// Byte j of `codes` holds element j in the low nibble and element j + 16 in the high nibble; bit j of `high`
// is the fifth bit of element j. Scales are IEEE halves. Codes are computed from the unrounded float scale,
// as ggml does.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

struct Q4_0Block {
  uint8_t scale[2], codes[16];
};  // scale * (q - 8)
struct Q4_1Block {
  uint8_t scale[2], minimum[2], codes[16];
};  // scale * q + minimum
struct Q5_0Block {
  uint8_t scale[2], high[4], codes[16];
};  // scale * (q - 16)
struct Q5_1Block {
  uint8_t scale[2], minimum[2], high[4], codes[16];
};
struct Q8_0Block {
  uint8_t scale[2];
  int8_t codes[32];
};  // scale * q
struct Q8_1Block {
  uint8_t scale[2], sum[2];
  int8_t codes[32];
};  // as Q8_0; sum = scale * (sum of q), not needed to decode
static_assert(sizeof(Q4_0Block) == 18 && sizeof(Q4_1Block) == 20 && sizeof(Q5_0Block) == 22);
static_assert(sizeof(Q5_1Block) == 24 && sizeof(Q8_0Block) == 34 && sizeof(Q8_1Block) == 36);

HOST_DEVICE inline int nibble_of_32(const uint8_t* codes, int i) {
  return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4;
}
HOST_DEVICE inline int fifth_bit(const uint8_t* high, int i) { return (high[i / 8] >> (i % 8) & 1) << 4; }

HOST_DEVICE inline float q4_0_value(const Q4_0Block& block, int i) {
  return static_cast<float>(nibble_of_32(block.codes, i) - 8) * load_half(block.scale);
}
HOST_DEVICE inline float q4_1_value(const Q4_1Block& block, int i) {
  return static_cast<float>(nibble_of_32(block.codes, i)) * load_half(block.scale) + load_half(block.minimum);
}
HOST_DEVICE inline float q5_0_value(const Q5_0Block& block, int i) {
  return static_cast<float>((nibble_of_32(block.codes, i) | fifth_bit(block.high, i)) - 16) *
         load_half(block.scale);
}
HOST_DEVICE inline float q5_1_value(const Q5_1Block& block, int i) {
  return static_cast<float>(nibble_of_32(block.codes, i) | fifth_bit(block.high, i)) *
             load_half(block.scale) +
         load_half(block.minimum);
}
HOST_DEVICE inline float q8_0_value(const Q8_0Block& block, int i) {
  return static_cast<float>(block.codes[i]) * load_half(block.scale);
}
HOST_DEVICE inline float q8_1_value(const Q8_1Block& block, int i) {
  return static_cast<float>(block.codes[i]) * load_half(block.scale);
}

// Encoders: 32 floats to one block. Written after ggml-quants.c (quantize_row_*_ref), from its described
// behaviour.
void q4_0_encode(const float* x, Q4_0Block& block);
void q4_1_encode(const float* x, Q4_1Block& block);
void q5_0_encode(const float* x, Q5_0Block& block);
void q5_1_encode(const float* x, Q5_1Block& block);
void q8_0_encode(const float* x, Q8_0Block& block);

}  // namespace retort
