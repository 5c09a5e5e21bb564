// Matrices of 4-bit codes in a folder: bitsandbytes' NF4 and FP4, GPTQ, AWQ, MXFP4 and NVFP4. Each is several
// tensors, and becomes one Weight of packed4 (quant/packed4.h) whose numbers are exactly those of the format
// in fp32.
#pragma once
#include "formats/weight_file.h"
#include "models/config.h"
#include "ops/weight.h"

namespace retort {

// Where a matrix's tensors are in the file, which must outlive this; all sizes are checked.
struct FourBitMatrix {
  FourBitConfig config;
  int64_t rows = 0, columns = 0;
  const TensorView* codes = nullptr;
  const TensorView* scales = nullptr;
  const TensorView* zeros = nullptr;     // GPTQ and AWQ
  const TensorView* group_of = nullptr;  // GPTQ's g_idx, where the file has it
  // bitsandbytes: how many elements share a scale, and, of scales that are codes themselves, their own
  // scales, what their codes stand for, how many share one, and what is added.
  bool fp4 = false;
  int64_t block = 0, nested_block = 0;
  const TensorView* nested_scales = nullptr;
  const TensorView* nested_map = nullptr;
  float nested_offset = 0;
  const TensorView* global_scale = nullptr;  // NVFP4: one number for the matrix

  int64_t group_columns() const { return config.group_size > 0 ? config.group_size : columns; }
  int64_t groups() const { return (columns + group_columns() - 1) / group_columns(); }
};

// nullopt: the file holds `name` ("... .weight") as one tensor. FormatError where it holds parts of a matrix
// of codes, or sizes that do not agree.
std::optional<FourBitMatrix> find_four_bit(const WeightFile& file, const FourBitConfig& config,
                                           const std::string& name);
// Codes of bitsandbytes, MXFP4 and NVFP4 stay where they are in the file; those of GPTQ and AWQ are a copy,
// in rows.
Weight read_four_bit(const FourBitMatrix& matrix);
uint64_t held_bytes(const FourBitMatrix& matrix);  // of read_four_bit's result, codes in the file among them
void release(const FourBitMatrix& matrix);         // its pages of the file

}  // namespace retort
