// GGUF's one-bit, two-bit and ternary types (Q1_0, Q2_0, TQ1_0, TQ2_0) and its 4-bit floats (MXFP4, NVFP4).
// Read only.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

struct Tq1_0Block {
  uint8_t fives[48], fours[4], scale[2];
};  // five or four base-3 digits a byte
struct Tq2_0Block {
  uint8_t codes[64], scale[2];
};
struct Q1_0Block {
  uint8_t scale[2], bits[16];
};  // 128 elements: +scale or -scale
struct Q2_0Block {
  uint8_t scale[2], codes[16];
};  // 64 elements: scale * (q - 1)
struct Mxfp4Block {
  uint8_t exponent, codes[16];
};  // 32 elements
struct Nvfp4Block {
  uint8_t scales[4], codes[32];
};  // 64 elements: an unsigned E4M3 scale for 16
static_assert(sizeof(Q1_0Block) == 18 && sizeof(Q2_0Block) == 18 && sizeof(Nvfp4Block) == 36);
static_assert(sizeof(Tq1_0Block) == 54 && sizeof(Tq2_0Block) == 66 && sizeof(Mxfp4Block) == 17);

// A byte holds digits as a fraction of 256, rounded up: digit n is the integer part of 3 * frac(byte * 3^n /
// 256).
HOST_DEVICE inline int ternary_digit(uint8_t byte, int n) {
  constexpr uint8_t powers[5] = {1, 3, 9, 27, 81};
  return static_cast<uint8_t>(byte * powers[n]) * 3 >> 8;
}
// Elements 0..159: bytes 0..31, digit by digit; 160..239: bytes 32..47; 240..255: the four bytes of four
// digits.
HOST_DEVICE inline float tq1_0_value(const Tq1_0Block& block, int i) {
  int digit = 0;
  if (i < 160) digit = ternary_digit(block.fives[i % 32], i / 32);
  else if (i < 240) digit = ternary_digit(block.fives[32 + (i - 160) % 16], (i - 160) / 16);
  else digit = ternary_digit(block.fours[(i - 240) % 4], (i - 240) / 4);
  return static_cast<float>(digit - 1) * load_half(block.scale);
}
HOST_DEVICE inline float tq2_0_value(const Tq2_0Block& block, int i) {
  return static_cast<float>((block.codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 1) *
         load_half(block.scale);
}
HOST_DEVICE inline float q1_0_value(const Q1_0Block& block, int i) {
  const float scale = load_half(block.scale);
  return block.bits[i / 8] >> (i % 8) & 1 ? scale : -scale;
}
HOST_DEVICE inline float q2_0_value(const Q2_0Block& block, int i) {
  return static_cast<float>((block.codes[i / 4] >> (i % 4 * 2) & 3) - 1) * load_half(block.scale);
}

// E2M1 codes, doubled so that they are whole; the scales below carry the factor 1/2.
HOST_DEVICE inline float doubled_e2m1(int code) {
  constexpr int8_t magnitudes[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  return static_cast<float>(code & 8 ? -magnitudes[code & 7] : magnitudes[code & 7]);
}
// OCP microscaling: 2^(exponent - 127), halved.
HOST_DEVICE inline float mxfp4_scale(const Mxfp4Block& block, int) {
  const uint32_t exponent = block.exponent;
  return float_from_bits(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
}
HOST_DEVICE inline int mxfp4_code(const Mxfp4Block& block, int i) {
  return i < 16 ? block.codes[i] & 15 : block.codes[i - 16] >> 4;
}
HOST_DEVICE inline float mxfp4_value(const Mxfp4Block& block, int i) {
  return doubled_e2m1(mxfp4_code(block, i)) * mxfp4_scale(block, i);
}
// Unsigned E4M3 without its NaN (0x7F counts as 0), halved; the top bit is not used.
HOST_DEVICE inline float halved_ue4m3(uint8_t bits) {
  const uint32_t exponent = bits >> 3 & 15u, mantissa = bits & 7u;
  if (bits == 0x7F) return 0.0f;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  return float_from_bits((exponent + 119) << 23 | mantissa << 20);
}
HOST_DEVICE inline float nvfp4_scale(const Nvfp4Block& block, int i) {
  return halved_ue4m3(block.scales[i / 16]);
}
HOST_DEVICE inline int nvfp4_code(const Nvfp4Block& block, int i) {
  const uint8_t pair = block.codes[i / 16 * 8 + i % 8];
  return i % 16 < 8 ? pair & 15 : pair >> 4;
}
HOST_DEVICE inline float nvfp4_value(const Nvfp4Block& block, int i) {
  return doubled_e2m1(nvfp4_code(block, i)) * nvfp4_scale(block, i);
}

}  // namespace retort
