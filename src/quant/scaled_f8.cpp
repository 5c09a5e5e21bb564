#include "quant/scaled_f8.h"

#include <algorithm>

#include "quant/paths.h"

namespace retort {
namespace {

const QuantPath* fastest_path() {
  static const QuantPath* const path =
      paths_on_this_machine().empty() ? nullptr : paths_on_this_machine().front();
  return path;
}

template <class Out>
using Rectangle = void (*)(const uint8_t*, int64_t, float, Out*, int64_t, int64_t, int64_t);

// Into the second-level cache, where what is fetched leaves alone what is decoded and packed.
void prefetch(const uint8_t* first, int64_t row_bytes, int64_t rows, int64_t bytes) {
  for (int64_t r = 0; r < rows; ++r, first += row_bytes)
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + at, 0, 2);
}

// Calls `rectangle` for the parts of a request that have one scale.
template <class Out> void decode(const std::byte* matrix, int64_t row_bytes, const ScaleGrid& grid,
                                 int64_t row, int64_t rows, int64_t first, int64_t count, Out* out,
                                 Rectangle<Out> rectangle) {
  const auto* in = reinterpret_cast<const uint8_t*>(matrix);
  for (int64_t r = 0; r < rows;) {
    const auto block_row = (row + r) / grid.block_rows;
    const auto some_rows = std::min(rows - r, (block_row + 1) * grid.block_rows - row - r);
    for (int64_t c = 0; c < count;) {
      const auto block_column = (first + c) / grid.block_columns;
      const auto some = std::min(count - c, (block_column + 1) * grid.block_columns - first - c);
      prefetch(in + (row + r) * row_bytes + first + c + kF8Ahead, row_bytes, some_rows,
               std::min(some, count - c - kF8Ahead));
      rectangle(in + (row + r) * row_bytes + first + c, row_bytes,
                grid.scales[block_row * grid.columns + block_column], out + r * count + c, count, some_rows,
                some);
      c += some;
    }
    r += some_rows;
  }
}

}  // namespace

void f8_rectangle(const uint8_t* in, int64_t in_stride, float scale, float* out, int64_t out_stride,
                  int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride)
    for (int64_t i = 0; i < count; ++i) out[i] = scaled_f8_value(in[i], scale);
}

void f8_rectangle_bf16(const uint8_t* in, int64_t in_stride, float scale, uint16_t* out, int64_t out_stride,
                       int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += out_stride)
    for (int64_t i = 0; i < count; ++i) out[i] = float_to_bf16(scaled_f8_value(in[i], scale));
}

void decode_scaled_f8(const std::byte* matrix, int64_t row_bytes, const ScaleGrid& grid, int64_t row,
                      int64_t rows, int64_t first, int64_t count, float* out) {
  const auto* path = fastest_path();
  decode(matrix, row_bytes, grid, row, rows, first, count, out, path ? path->f8_to_float : f8_rectangle);
}

void decode_scaled_f8_bf16(const std::byte* matrix, int64_t row_bytes, const ScaleGrid& grid, int64_t row,
                           int64_t rows, int64_t first, int64_t count, uint16_t* out) {
  const auto* path = fastest_path();
  decode(matrix, row_bytes, grid, row, rows, first, count, out, path ? path->f8_to_bf16 : f8_rectangle_bf16);
}

}  // namespace retort
