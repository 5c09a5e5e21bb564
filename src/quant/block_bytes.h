// Little-endian fields inside stored blocks. Block structs hold bytes only: a file may place them at any
// address.
#pragma once
#include "base/half.h"

#include <cstddef>
#include <cstdint>

namespace retort {

HOST_DEVICE inline uint16_t load_u16(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}
HOST_DEVICE inline uint32_t load_u32(const uint8_t* bytes) {
  return static_cast<uint32_t>(load_u16(bytes)) | static_cast<uint32_t>(load_u16(bytes + 2)) << 16;
}
HOST_DEVICE inline float load_half(const uint8_t* bytes) { return half_to_float(load_u16(bytes)); }
HOST_DEVICE inline float load_float(const uint8_t* bytes) { return float_from_bits(load_u32(bytes)); }

HOST_DEVICE inline void store_u16(uint8_t* bytes, uint16_t value) {
  bytes[0] = static_cast<uint8_t>(value);
  bytes[1] = static_cast<uint8_t>(value >> 8);
}
HOST_DEVICE inline void store_u32(uint8_t* bytes, uint32_t value) {
  store_u16(bytes, static_cast<uint16_t>(value));
  store_u16(bytes + 2, static_cast<uint16_t>(value >> 16));
}
HOST_DEVICE inline void store_half(uint8_t* bytes, float value) { store_u16(bytes, float_to_half(value)); }
HOST_DEVICE inline void store_float(uint8_t* bytes, float value) { store_u32(bytes, bits_of(value)); }

// Nearest integer, halves to even, as llama.cpp computes it: by adding 1.5 * 2^23, valid for |value| < 2^22.
HOST_DEVICE inline int nearest_int(float value) {
  return static_cast<int>(bits_of(value + 12582912.0f) & 0x007FFFFFu) - 0x00400000;
}

HOST_DEVICE inline int clamp_int(int value, int low, int high) {
  return value < low ? low : value > high ? high : value;
}

// Truncates towards zero into [low, high]; a NaN gives `low`.
HOST_DEVICE inline int truncate_to(float value, int low, int high) {
  if (!(value > static_cast<float>(low))) return low;
  return value < static_cast<float>(high) ? static_cast<int>(value) : high;
}

// The element of largest magnitude with its sign, the first on ties; 0 for all zeros.
HOST_DEVICE inline float extreme(const float* x, int count) {
  float largest = 0.0f, value = 0.0f;
  for (int i = 0; i < count; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    if (magnitude > largest) {
      largest = magnitude;
      value = x[i];
    }
  }
  return value;
}

// The two loops every block type shares: blocks one after the other, elements in order.
template <class Block, int kElements, float (*kValue)(const Block&, int)>
void decode_blocks(const std::byte* in, float* out, int64_t blocks) {
  const auto* block = reinterpret_cast<const Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += kElements)
    for (int i = 0; i < kElements; ++i) out[i] = kValue(*block, i);
}

template <class Block, int kElements, void (*kEncode)(const float*, Block&)>
void encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  auto* block = reinterpret_cast<Block*>(out);
  const int64_t blocks = rows * (columns / kElements);
  for (int64_t b = 0; b < blocks; ++b, ++block, in += kElements) kEncode(in, *block);
}

}  // namespace retort
