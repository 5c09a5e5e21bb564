// Types with one element a block: floats, integers, and the 8-bit floats of safetensors.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

// OCP 8-bit floats. E4M3 is the "fn" kind: no infinity, 0x7F and 0xFF are NaN, largest value 448.
HOST_DEVICE inline float f8_e4m3_to_float(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t exponent = bits >> 3 & 15u, mantissa = bits & 7u;
  if (exponent == 15 && mantissa == 7) return float_from_bits(sign | 0x7FC00000u);
  if (exponent != 0) return float_from_bits(sign | (exponent + 120) << 23 | mantissa << 20);
  return float_from_bits(sign | bits_of(static_cast<float>(mantissa) * 0x1p-9f));
}
// E5M2 is the upper byte of an IEEE half.
HOST_DEVICE inline float f8_e5m2_to_float(uint8_t bits) {
  return half_to_float(static_cast<uint16_t>(bits << 8));
}
// A power of two, 2^(bits - 127); 255 is NaN.
HOST_DEVICE inline float f8_e8m0_to_float(uint8_t bits) {
  if (bits == 255) return float_from_bits(0x7FC00000u);
  return bits == 0 ? 0x1p-127f : float_from_bits(static_cast<uint32_t>(bits) << 23);
}

void decode_f32(const std::byte* in, float* out, int64_t count);
void decode_f64(const std::byte* in, float* out, int64_t count);
void decode_f16(const std::byte* in, float* out, int64_t count);
void decode_bf16(const std::byte* in, float* out, int64_t count);
void decode_i8(const std::byte* in, float* out, int64_t count);
void decode_i16(const std::byte* in, float* out, int64_t count);
void decode_i32(const std::byte* in, float* out, int64_t count);
void decode_i64(const std::byte* in, float* out, int64_t count);
void decode_u8(const std::byte* in, float* out, int64_t count);
void decode_boolean(const std::byte* in, float* out, int64_t count);
void decode_f8_e4m3(const std::byte* in, float* out, int64_t count);
void decode_f8_e5m2(const std::byte* in, float* out, int64_t count);
void decode_f8_e8m0(const std::byte* in, float* out, int64_t count);

void encode_f32(const float* in, std::byte* out, int64_t rows, int64_t columns);
void encode_f64(const float* in, std::byte* out, int64_t rows, int64_t columns);
void encode_f16(const float* in, std::byte* out, int64_t rows, int64_t columns);
void encode_bf16(const float* in, std::byte* out, int64_t rows, int64_t columns);

}  // namespace retort
