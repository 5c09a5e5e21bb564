// IEEE half and bfloat16 as bit patterns, converted in plain C++ so that every path agrees to the bit.
#pragma once
#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

namespace retort {

HOST_DEVICE inline float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
HOST_DEVICE inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

HOST_DEVICE inline float bf16_to_float(uint16_t bits) {
  return float_from_bits(static_cast<uint32_t>(bits) << 16);
}

// Rounds to nearest even; a NaN stays a (quiet) NaN.
HOST_DEVICE inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 64);
  return static_cast<uint16_t>((bits + (0x7FFFu + ((bits >> 16) & 1))) >> 16);
}

HOST_DEVICE inline float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 31) return float_from_bits(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return float_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return float_from_bits(sign | bits_of(magnitude));
}

// Rounds to nearest even; overflow becomes infinity.
HOST_DEVICE inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // rounds past 65504
  if (magnitude < 0x38800000u) {  // subnormal half: units of 2^-24
    const float units = float_from_bits(magnitude) * 0x1p24f;
    const float rounded = (units + 0x1.8p23f) - 0x1.8p23f;  // nearest even below 2^22
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(rounded));
  }
  const uint32_t rebased = magnitude - (112u << 23);
  return static_cast<uint16_t>(sign | ((rebased + 0xFFFu + ((rebased >> 13) & 1)) >> 13));
}

}  // namespace retort
