#include "quant/int8_row.h"

#include <algorithm>
#include <cmath>

namespace retort {

void int8_row_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  auto* row = reinterpret_cast<uint8_t*>(out);
  for (int64_t r = 0; r < rows; ++r, in += columns, row += kInt8RowHeader + columns) {
    float absmax = 0.0f;
    for (int64_t i = 0; i < columns; ++i) absmax = std::max(absmax, std::fabs(in[i]));
    const float inverse = absmax > 0.0f ? 127.0f / absmax : 0.0f;
    store_float(row, absmax / 127.0f);
    for (int64_t i = 0; i < columns; ++i)
      row[kInt8RowHeader + i] = static_cast<uint8_t>(clamp_int(nearest_int(in[i] * inverse), -127, 127));
  }
}

void int8_row_decode_row(const std::byte* in, float* out, int64_t blocks) {
  const auto* row = reinterpret_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < blocks * kInt8RowElements; ++i) out[i] = int8_row_value(row, i);
}

}  // namespace retort
