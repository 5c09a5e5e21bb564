// GGUF's K types: super-blocks of 256 elements whose sub-blocks have small integer scales under one or two
// halves. Layout and scalar decoding; the encoders (k_encode.cpp) search scales as ggml-quants.c does without
// an importance matrix.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

struct Q2_KBlock {
  uint8_t scales[16], codes[64], scale[2], minimum[2];
};  // 16 sub-blocks of 16
struct Q3_KBlock {
  uint8_t high[32], codes[64], scales[12], scale[2];
};
struct Q4_KBlock {
  uint8_t scale[2], minimum[2], scales[12], codes[128];
};  // 8 sub-blocks of 32
struct Q5_KBlock {
  uint8_t scale[2], minimum[2], scales[12], high[32], codes[128];
};
struct Q6_KBlock {
  uint8_t low[128], high[64];
  int8_t scales[16];
  uint8_t scale[2];
};  // 16 sub-blocks of 16
struct Q8_KBlock {
  uint8_t scale[4];
  int8_t codes[256];
  uint8_t sums[32];
};  // float scale; sums of 16 codes
static_assert(sizeof(Q2_KBlock) == 84 && sizeof(Q3_KBlock) == 110 && sizeof(Q4_KBlock) == 144);
static_assert(sizeof(Q5_KBlock) == 176 && sizeof(Q6_KBlock) == 210 && sizeof(Q8_KBlock) == 292);

// Q4_K and Q5_K: 6-bit scale and minimum of sub-block j (0..7) in 12 bytes. The low four sub-blocks use the
// low six bits of bytes 0..7; the others a nibble of bytes 8..11 and the spare top bits of bytes 0..7.
HOST_DEVICE inline int k_sub_scale(const uint8_t* s, int j) {
  return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
}
HOST_DEVICE inline int k_sub_minimum(const uint8_t* s, int j) {
  return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
}

// Q3_K: 6-bit scale of sub-block j (0..15), stored plus 32.
HOST_DEVICE inline int q3_k_sub_scale(const uint8_t* s, int j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  return (low | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
}

// Q2_K, Q3_K: each half of 128 elements has 32 bytes; element e is bits 2 * (e / 32) of byte e % 32.
HOST_DEVICE inline int two_bits(const uint8_t* codes, int i) {
  return codes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3;
}
// Q4_K, Q5_K: each 64 elements have 32 bytes, low nibbles first.
HOST_DEVICE inline int nibble_of_64(const uint8_t* codes, int i) {
  return codes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

HOST_DEVICE inline float q2_k_value(const Q2_KBlock& block, int i) {
  const int sub = block.scales[i / 16];
  const float scale = load_half(block.scale) * static_cast<float>(sub & 15);
  const float minimum = load_half(block.minimum) * static_cast<float>(sub >> 4);
  return scale * static_cast<float>(two_bits(block.codes, i)) - minimum;
}
HOST_DEVICE inline float q3_k_value(const Q3_KBlock& block, int i) {
  const float scale = load_half(block.scale) * static_cast<float>(q3_k_sub_scale(block.scales, i / 16));
  const int high = block.high[i % 32] >> (i / 32) & 1;
  return scale * static_cast<float>(two_bits(block.codes, i) - (high ? 0 : 4));
}
HOST_DEVICE inline float q4_k_value(const Q4_KBlock& block, int i) {
  const float scale = load_half(block.scale) * static_cast<float>(k_sub_scale(block.scales, i / 32));
  const float minimum = load_half(block.minimum) * static_cast<float>(k_sub_minimum(block.scales, i / 32));
  return scale * static_cast<float>(nibble_of_64(block.codes, i)) - minimum;
}
HOST_DEVICE inline float q5_k_value(const Q5_KBlock& block, int i) {
  const float scale = load_half(block.scale) * static_cast<float>(k_sub_scale(block.scales, i / 32));
  const float minimum = load_half(block.minimum) * static_cast<float>(k_sub_minimum(block.scales, i / 32));
  const int high = block.high[i % 32] >> (i / 32) & 1;
  return scale * static_cast<float>(nibble_of_64(block.codes, i) + 16 * high) - minimum;
}
// Per half of 128: element e has its low nibble in byte e % 64 (low half of the byte for e < 64) and two bits
// in `high`.
HOST_DEVICE inline float q6_k_value(const Q6_KBlock& block, int i) {
  const int half = i / 128, e = i % 128;
  const int low = block.low[half * 64 + e % 64] >> (e / 64 * 4) & 15;
  const int high = block.high[half * 32 + e % 32] >> (e / 32 * 2) & 3;
  return load_half(block.scale) * static_cast<float>(block.scales[i / 16]) *
         static_cast<float>((low | high << 4) - 32);
}
HOST_DEVICE inline float q8_k_value(const Q8_KBlock& block, int i) {
  return load_float(block.scale) * static_cast<float>(block.codes[i]);
}

// Encoders: 256 floats to one block.
struct ScaleSearch;
void q2_k_encode(const float* x, Q2_KBlock& block, const ScaleSearch& search);
void q3_k_encode(const float* x, Q3_KBlock& block);
void q4_k_encode(const float* x, Q4_KBlock& block, const ScaleSearch& search);
void q5_k_encode(const float* x, Q5_KBlock& block, const ScaleSearch& search);
void q6_k_encode(const float* x, Q6_KBlock& block, const ScaleSearch& search);

}  // namespace retort
