#include "quant/dense.h"

#include <cstring>

namespace retort {
namespace {

template <class Stored, class Convert>
void decode_each(const std::byte* in, float* out, int64_t count, Convert convert) {
  for (int64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, in + i * static_cast<int64_t>(sizeof value), sizeof value);
    out[i] = convert(value);
  }
}

template <class Stored, class Convert>
void encode_each(const float* in, std::byte* out, int64_t count, Convert convert) {
  for (int64_t i = 0; i < count; ++i) {
    const Stored value = convert(in[i]);
    std::memcpy(out + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }
}

template <class Stored> float widened(Stored value) { return static_cast<float>(value); }

}  // namespace

void decode_f32(const std::byte* in, float* out, int64_t count) {
  std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
}
void decode_f64(const std::byte* in, float* out, int64_t count) {
  decode_each<double>(in, out, count, widened<double>);
}
void decode_f16(const std::byte* in, float* out, int64_t count) {
  decode_each<uint16_t>(in, out, count, half_to_float);
}
void decode_bf16(const std::byte* in, float* out, int64_t count) {
  decode_each<uint16_t>(in, out, count, bf16_to_float);
}
void decode_i8(const std::byte* in, float* out, int64_t count) {
  decode_each<int8_t>(in, out, count, widened<int8_t>);
}
void decode_i16(const std::byte* in, float* out, int64_t count) {
  decode_each<int16_t>(in, out, count, widened<int16_t>);
}
void decode_i32(const std::byte* in, float* out, int64_t count) {
  decode_each<int32_t>(in, out, count, widened<int32_t>);
}
void decode_i64(const std::byte* in, float* out, int64_t count) {
  decode_each<int64_t>(in, out, count, widened<int64_t>);
}
void decode_u8(const std::byte* in, float* out, int64_t count) {
  decode_each<uint8_t>(in, out, count, widened<uint8_t>);
}
void decode_boolean(const std::byte* in, float* out, int64_t count) {
  decode_each<uint8_t>(in, out, count, [](uint8_t value) { return value != 0 ? 1.0f : 0.0f; });
}
void decode_f8_e4m3(const std::byte* in, float* out, int64_t count) {
  decode_each<uint8_t>(in, out, count, f8_e4m3_to_float);
}
void decode_f8_e5m2(const std::byte* in, float* out, int64_t count) {
  decode_each<uint8_t>(in, out, count, f8_e5m2_to_float);
}
void decode_f8_e8m0(const std::byte* in, float* out, int64_t count) {
  decode_each<uint8_t>(in, out, count, f8_e8m0_to_float);
}

void encode_f32(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  std::memcpy(out, in, static_cast<size_t>(rows * columns) * sizeof(float));
}
void encode_f64(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  encode_each<double>(in, out, rows * columns, [](float value) { return static_cast<double>(value); });
}
void encode_f16(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  encode_each<uint16_t>(in, out, rows * columns, float_to_half);
}
void encode_bf16(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  encode_each<uint16_t>(in, out, rows * columns, float_to_bf16);
}

}  // namespace retort
