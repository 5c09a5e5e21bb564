// int8_row: one float scale and then one signed byte a weight, a row at a time (absmax quantization of
// LLM.int8(), arXiv:2208.07339, section 2, without outlier columns). One scale a row lets a backward product
// fold it into dY.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

inline constexpr int64_t kInt8RowHeader = 4;     // float scale = absmax / 127
inline constexpr int64_t kInt8RowElements = 32;  // rows are whole multiples of this, for vector loads

HOST_DEVICE inline float int8_row_value(const uint8_t* row, int64_t i) {
  return static_cast<float>(static_cast<int8_t>(row[kInt8RowHeader + i])) * load_float(row);
}

void int8_row_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns);
void int8_row_decode_row(const std::byte* row, float* out, int64_t blocks);

}  // namespace retort
