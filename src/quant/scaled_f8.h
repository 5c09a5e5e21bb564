// F8_E4M3 matrices with a scale for each block of rows and columns, as DeepSeek publishes its weights
// (arXiv:2412.19437, section 3.3): W[i,j] = e4m3[i,j] * scale[i / block rows, j / block columns], the product
// in fp32. Blocks at the lower and the right edge are cut off where the matrix ends. A scale for each row and
// one for the whole matrix are blocks of other shapes.
#pragma once
#include "quant/dense.h"

#include <array>

namespace retort {

struct ScaleGrid {
  const float* scales = nullptr;  // [ceil(rows / block_rows), columns]; null: the matrix has none
  int64_t columns = 0;            // of the grid
  int64_t block_rows = 1, block_columns = 1;
};

HOST_DEVICE inline float scaled_f8_value(uint8_t code, float scale) { return f8_e4m3_to_float(code) * scale; }

// The values of the codes 0 to 127; the eighth bit of a code is the sign.
constexpr std::array<float, 128> f8_e4m3_magnitudes() {
  std::array<float, 128> values{};
  for (int code = 0; code < 127; ++code) {
    float value = code < 8 ? static_cast<float>(code) : static_cast<float>(8 + code % 8);
    for (int exponent = code < 8 ? 1 : code / 8; exponent < 10; ++exponent) value *= 0.5f;
    for (int exponent = code / 8; exponent > 10; --exponent) value *= 2.0f;
    values[static_cast<size_t>(code)] = value;
  }
  values[127] = __builtin_nanf("");
  return values;
}
inline constexpr std::array<float, 128> kF8E4m3Magnitudes = f8_e4m3_magnitudes();

// How many columns are fetched from memory ahead of those that are decoded: parts of many rows are no stream
// that the hardware would see.
inline constexpr int64_t kF8Ahead = 256;

// Rows [row, row + rows), columns [first, first + count) of a matrix whose rows lie `row_bytes` apart, to
// rows of `count`, with the fastest path of this machine; to bfloat16 rounded to nearest even.
void decode_scaled_f8(const std::byte* matrix, int64_t row_bytes, const ScaleGrid& grid, int64_t row,
                      int64_t rows, int64_t first, int64_t count, float* out);
void decode_scaled_f8_bf16(const std::byte* matrix, int64_t row_bytes, const ScaleGrid& grid, int64_t row,
                           int64_t rows, int64_t first, int64_t count, uint16_t* out);

// A rectangle of one scale: the definition, which paths.h has faster.
void f8_rectangle(const uint8_t* in, int64_t in_stride, float scale, float* out, int64_t out_stride,
                  int64_t rows, int64_t count);
void f8_rectangle_bf16(const uint8_t* in, int64_t in_stride, float scale, uint16_t* out, int64_t out_stride,
                       int64_t rows, int64_t count);

}  // namespace retort
