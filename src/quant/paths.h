// Faster versions of the scalar definitions for one instruction set each. Whatever the path, results are the
// same bits (NaN payloads aside). A machine uses the first path of paths_on_this_machine() that has what is
// asked for, and else the scalar definition. The files behind this header are compiled for instructions that
// the machine may lack: nothing in them may be an inline function that other files share, or the linker could
// choose the wrong copy.
#pragma once
#include "quant/k_search.h"
#include "quant/packed4.h"
#include "quant/types.h"

#include <span>
#include <string_view>

namespace retort {

using DecodeToFloat = void (*)(const std::byte* in, float* out, int64_t blocks);
using DecodeToBf16 = void (*)(const std::byte* in, uint16_t* out, int64_t blocks);

struct QuantPath {
  std::string_view name;  // "avx512", "avx2"
  // Null for types without a faster version. As TypeInfo::dequantize; nf4_dq is decoded through nf4_to_*
  // below.
  DecodeToFloat (*decoder)(WeightType type);
  DecodeToBf16 (*bf16_decoder)(WeightType type);
  // 32 bytes of NF4 codes a block, and the blocks' maxima apart.
  void (*nf4_to_float)(const uint8_t* codes, const float* maxima, float* out, int64_t blocks);
  void (*nf4_to_bf16)(const uint8_t* codes, const float* maxima, uint16_t* out, int64_t blocks);
  // Blocks of 64 floats to their maxima and codes; block b's codes go to codes + b * stride.
  void (*nf4_encode)(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks);
  const ScaleSearch* search;  // of the K types and IQ4_NL
  // Rows of F8_E4M3 codes that share one scale (scaled_f8.h).
  void (*f8_to_float)(const uint8_t* in, int64_t in_stride, float scale, float* out, int64_t out_stride,
                      int64_t rows, int64_t count);
  void (*f8_to_bf16)(const uint8_t* in, int64_t in_stride, float scale, uint16_t* out, int64_t out_stride,
                     int64_t rows, int64_t count);
  // Codes of 4 bits with scales apart (packed4.h).
  void (*code_groups_to_float)(const CodeRun& run, int64_t groups, int64_t columns, float* out);
  void (*code_groups_to_bf16)(const CodeRun& run, int64_t groups, int64_t columns, uint16_t* out);
  void (*scattered_codes_to_float)(const ScatteredRun& run, int64_t count, float* out);
  void (*scattered_codes_to_bf16)(const ScatteredRun& run, int64_t count, uint16_t* out);
};

// Fastest first, by CPUID; empty where only the scalar definitions run.
std::span<const QuantPath* const> paths_on_this_machine();

}  // namespace retort
