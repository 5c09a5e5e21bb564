// The element types of stored weights: one row a type. Everything that asks "how large is a block", "how is
// it decoded" asks this table. A format is added by one file (layout + scalar arithmetic) and one line in
// types.cpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

enum class WeightType : uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  boolean,  // dense
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q8_1,  // GGUF, blocks of 32
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  q8_k,  // GGUF, blocks of 256
  iq1_s,
  iq1_m,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  iq4_nl,
  iq4_xs,  // GGUF, code books
  tq1_0,
  tq2_0,
  q1_0,
  q2_0,
  mxfp4,
  nvfp4,  // GGUF, one to two bits and 4-bit floats
  nf4,
  nf4_dq,
  int8_row,  // ours: frozen bases of QLoRA
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,  // safetensors
  packed4,  // codes of 4 bits whose scales lie apart (packed4.h)
};

struct TypeInfo {
  WeightType type;
  std::string_view name;         // "Q4_K": llama.cpp's spelling; "BF16", "nf4"
  int32_t ggml_id;               // -1 when GGUF has no such type
  std::string_view safetensors;  // dtype string, empty when safetensors has none
  int64_t block_elements;        // 1 for dense types
  int64_t block_bytes;
  // The scalar reference: decodes `blocks` whole blocks; of a type with a row header, one whole row of
  // `blocks` blocks.
  void (*dequantize)(const std::byte* blocks_in, float* out, int64_t blocks);
  // Encodes `rows` rows of `columns` floats (columns a multiple of block_elements); null: read-only type.
  void (*quantize)(const float* in, std::byte* out, int64_t rows, int64_t columns);
  // Bytes in front of each row's blocks (nf4_dq, int8_row); 0 for most. Sizes come from row_bytes(), never
  // from block_bytes alone.
  int64_t row_header_bytes = 0;
};

const TypeInfo& type_info(WeightType type);
std::span<const TypeInfo> all_types();
std::optional<WeightType> type_from_ggml(int64_t ggml_id);  // nullopt: unknown or removed id
std::optional<WeightType> type_from_safetensors(std::string_view dtype);
std::optional<WeightType> type_from_name(std::string_view name);  // case-insensitive
inline bool is_block_quantized(WeightType type) { return type_info(type).block_elements > 1; }

// Bytes of a row of `columns`, its header included; nullopt when columns is not a multiple of the block or
// the product overflows.
std::optional<uint64_t> row_bytes(WeightType type, uint64_t columns);

// Decodes `rows` rows of `columns` elements of any type to float, with the fastest path of this machine. Rows
// are independent: any number of threads may each decode or encode some of them. `in` may lie at any address.
// columns must be a multiple of the block (row_bytes() says so); that is the caller's promise, not checked
// again here.
void dequantize_rows(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns);
// The same to bfloat16 bit patterns (rounded to nearest even from the exact float value).
void dequantize_rows_bf16(WeightType type, const std::byte* in, uint16_t* out, int64_t rows, int64_t columns);
// Columns [first, first + count) of `rows` rows, each `columns` wide and row_bytes() long, to rows of
// `count`; both multiples of the block.
void dequantize_columns(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns,
                        int64_t first, int64_t count);
void dequantize_columns_bf16(WeightType type, const std::byte* in, uint16_t* out, int64_t rows,
                             int64_t columns, int64_t first, int64_t count);
// Values must be finite: check before (a NaN gives some code, never undefined behaviour). Throws Failure for
// a read-only type.
void quantize_rows(WeightType type, const float* in, std::byte* out, int64_t rows, int64_t columns);
inline bool can_quantize(WeightType type) { return type_info(type).quantize != nullptr; }

// llama.cpp's choice where `columns` is not a multiple of the block: Q4_K -> Q5_0, Q5_K -> Q5_1, Q6_K ->
// Q8_0, 2/3-bit K and ternary types -> Q4_0, IQ types -> IQ4_NL; F16 where not even a multiple of 32. Ours:
// nf4 -> int8_row, else BF16. Returns `type` itself where it fits.
WeightType fitting_type(WeightType type, int64_t columns);

}  // namespace retort
