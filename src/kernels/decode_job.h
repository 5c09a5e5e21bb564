// Decoding of stored rows on a device: what is to be decoded, from where to where. All addresses are the
// device's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/types.h"

namespace retort {

struct DecodeJob {
  WeightType type = WeightType::nf4;
  bool to_bf16 = true;              // else to fp32
  const uint8_t* stored = nullptr;  // the first row's bytes, at a multiple of 16; rows follow each other
  void* out = nullptr;              // [rows, columns], at a multiple of 16
  int64_t rows = 0, columns = 0;
  const void* book = nullptr;  // decode_book(), or of packed4 the values of its 16 codes
  // F8_E4M3 and packed4, whose scales lie apart: ScaleGrid of quant/scaled_f8.h, CodeGroups of
  // quant/packed4.h, of the whole matrix.
  const float* scales = nullptr;
  const uint8_t* zeros = nullptr;
  const int32_t* group_of = nullptr;
  int64_t first_row = 0;                      // which row of the matrix is the first here
  int64_t scale_columns = 0;                  // scales of a row of blocks; packed4: `groups`
  int64_t block_rows = 1, block_columns = 1;  // that one scale is for; packed4: 1, `group_columns`
  bool high_first = false;
};

// Whether there is a kernel for a type: all that have blocks, and F8_E4M3 and packed4 with scales.
bool has_decode_kernel(WeightType type);
// What the kernel of a type looks up: values of codes, entries of a code book. Empty where it looks nothing
// up, and of packed4, whose values the matrix brings.
std::span<const std::byte> decode_book(WeightType type);

}  // namespace retort
