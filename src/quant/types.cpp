#include "quant/types.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/letters.h"
#include "quant/blocks32.h"
#include "quant/code_books.h"
#include "quant/dense.h"
#include "quant/int8_row.h"
#include "quant/k_blocks.h"
#include "quant/k_search.h"
#include "quant/nf4.h"
#include "quant/packed4.h"
#include "quant/paths.h"
#include "quant/small_floats.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace retort {
namespace {

using T = WeightType;

void encode_nf4_dq(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  nf4_dq_encode_rows(in, out, rows, columns, nf4_encode_apart);
}

// Types whose encoder searches scales: with the scalar search for the table, with the path's in
// quantize_rows.
using SearchingEncode = void (*)(const float* in, std::byte* out, int64_t blocks, const ScaleSearch& search);

template <class Block, void (*kEncode)(const float*, Block&, const ScaleSearch&)>
void encode_k(const float* in, std::byte* out, int64_t blocks, const ScaleSearch& search) {
  for (int64_t b = 0; b < blocks; ++b) kEncode(in + 256 * b, reinterpret_cast<Block*>(out)[b], search);
}

SearchingEncode searching_encoder(WeightType type) {
  switch (type) {
    case T::q2_k: return encode_k<Q2_KBlock, q2_k_encode>;
    case T::q4_k: return encode_k<Q4_KBlock, q4_k_encode>;
    case T::q5_k: return encode_k<Q5_KBlock, q5_k_encode>;
    case T::q6_k: return encode_k<Q6_KBlock, q6_k_encode>;
    case T::iq4_nl: return encode_iq4_nl;
    default: return nullptr;
  }
}

template <WeightType kType>
void encode_by_scalar_search(const float* in, std::byte* out, int64_t rows, int64_t columns) {
  searching_encoder(kType)(in, out, rows * (columns / type_info(kType).block_elements), scalar_search());
}

// In the order of WeightType: type_info() indexes it.
constexpr TypeInfo kTypes[] = {
    {T::f32, "F32", 0, "F32", 1, 4, decode_f32, encode_f32},
    {T::f16, "F16", 1, "F16", 1, 2, decode_f16, encode_f16},
    {T::bf16, "BF16", 30, "BF16", 1, 2, decode_bf16, encode_bf16},
    {T::f64, "F64", 28, "F64", 1, 8, decode_f64, encode_f64},
    {T::i8, "I8", 24, "I8", 1, 1, decode_i8, nullptr},
    {T::i16, "I16", 25, "I16", 1, 2, decode_i16, nullptr},
    {T::i32, "I32", 26, "I32", 1, 4, decode_i32, nullptr},
    {T::i64, "I64", 27, "I64", 1, 8, decode_i64, nullptr},
    {T::u8, "U8", -1, "U8", 1, 1, decode_u8, nullptr},
    {T::boolean, "BOOL", -1, "BOOL", 1, 1, decode_boolean, nullptr},
    {T::q4_0, "Q4_0", 2, "", 32, 18, decode_blocks<Q4_0Block, 32, q4_0_value>,
     encode_rows<Q4_0Block, 32, q4_0_encode>},
    {T::q4_1, "Q4_1", 3, "", 32, 20, decode_blocks<Q4_1Block, 32, q4_1_value>,
     encode_rows<Q4_1Block, 32, q4_1_encode>},
    {T::q5_0, "Q5_0", 6, "", 32, 22, decode_blocks<Q5_0Block, 32, q5_0_value>,
     encode_rows<Q5_0Block, 32, q5_0_encode>},
    {T::q5_1, "Q5_1", 7, "", 32, 24, decode_blocks<Q5_1Block, 32, q5_1_value>,
     encode_rows<Q5_1Block, 32, q5_1_encode>},
    {T::q8_0, "Q8_0", 8, "", 32, 34, decode_blocks<Q8_0Block, 32, q8_0_value>,
     encode_rows<Q8_0Block, 32, q8_0_encode>},
    {T::q8_1, "Q8_1", 9, "", 32, 36, decode_blocks<Q8_1Block, 32, q8_1_value>, nullptr},
    {T::q2_k, "Q2_K", 10, "", 256, 84, decode_blocks<Q2_KBlock, 256, q2_k_value>,
     encode_by_scalar_search<T::q2_k>},
    {T::q3_k, "Q3_K", 11, "", 256, 110, decode_blocks<Q3_KBlock, 256, q3_k_value>,
     encode_rows<Q3_KBlock, 256, q3_k_encode>},
    {T::q4_k, "Q4_K", 12, "", 256, 144, decode_blocks<Q4_KBlock, 256, q4_k_value>,
     encode_by_scalar_search<T::q4_k>},
    {T::q5_k, "Q5_K", 13, "", 256, 176, decode_blocks<Q5_KBlock, 256, q5_k_value>,
     encode_by_scalar_search<T::q5_k>},
    {T::q6_k, "Q6_K", 14, "", 256, 210, decode_blocks<Q6_KBlock, 256, q6_k_value>,
     encode_by_scalar_search<T::q6_k>},
    {T::q8_k, "Q8_K", 15, "", 256, 292, decode_blocks<Q8_KBlock, 256, q8_k_value>, nullptr},
    {T::iq1_s, "IQ1_S", 19, "", 256, 50, decode_iq1_s, nullptr},
    {T::iq1_m, "IQ1_M", 29, "", 256, 56, decode_iq1_m, nullptr},
    {T::iq2_xxs, "IQ2_XXS", 16, "", 256, 66, decode_iq2_xxs, nullptr},
    {T::iq2_xs, "IQ2_XS", 17, "", 256, 74, decode_iq2_xs, nullptr},
    {T::iq2_s, "IQ2_S", 22, "", 256, 82, decode_iq2_s, nullptr},
    {T::iq3_xxs, "IQ3_XXS", 18, "", 256, 98, decode_iq3_xxs, nullptr},
    {T::iq3_s, "IQ3_S", 21, "", 256, 110, decode_iq3_s, nullptr},
    {T::iq4_nl, "IQ4_NL", 20, "", 32, 18, decode_blocks<Iq4NlBlock, 32, iq4_nl_value>,
     encode_by_scalar_search<T::iq4_nl>},
    {T::iq4_xs, "IQ4_XS", 23, "", 256, 136, decode_blocks<Iq4XsBlock, 256, iq4_xs_value>, nullptr},
    {T::tq1_0, "TQ1_0", 34, "", 256, 54, decode_blocks<Tq1_0Block, 256, tq1_0_value>, nullptr},
    {T::tq2_0, "TQ2_0", 35, "", 256, 66, decode_blocks<Tq2_0Block, 256, tq2_0_value>, nullptr},
    {T::q1_0, "Q1_0", 41, "", 128, 18, decode_blocks<Q1_0Block, 128, q1_0_value>, nullptr},
    {T::q2_0, "Q2_0", 42, "", 64, 18, decode_blocks<Q2_0Block, 64, q2_0_value>, nullptr},
    {T::mxfp4, "MXFP4", 39, "", 32, 17, decode_blocks<Mxfp4Block, 32, mxfp4_value>, nullptr},
    {T::nvfp4, "NVFP4", 40, "", 64, 36, decode_blocks<Nvfp4Block, 64, nvfp4_value>, nullptr},
    {T::nf4, "nf4", -1, "", kNf4Elements, 36, nf4_decode, encode_rows<Nf4Block, kNf4Elements, nf4_encode>},
    {T::nf4_dq, "nf4_dq", -1, "", kNf4Elements, kNf4DqBlock, nf4_dq_decode_row, encode_nf4_dq, kNf4DqHeader},
    {T::int8_row, "int8", -1, "", kInt8RowElements, kInt8RowElements, int8_row_decode_row,
     int8_row_encode_rows, kInt8RowHeader},
    {T::f8_e4m3, "F8_E4M3", -1, "F8_E4M3", 1, 1, decode_f8_e4m3, nullptr},
    {T::f8_e5m2, "F8_E5M2", -1, "F8_E5M2", 1, 1, decode_f8_e5m2, nullptr},
    {T::f8_e8m0, "F8_E8M0", -1, "F8_E8M0", 1, 1, decode_f8_e8m0, nullptr},
    {T::packed4, "4-bit", -1, "", 2, 1, decode_codes4, nullptr},
};

constexpr bool in_enum_order() {
  for (size_t i = 0; i < std::size(kTypes); ++i)
    if (static_cast<size_t>(kTypes[i].type) != i) return false;
  return true;
}
static_assert(in_enum_order());

template <class Match> std::optional<WeightType> first_type(Match match) {
  const auto found = std::ranges::find_if(kTypes, match);
  if (found == std::end(kTypes)) return std::nullopt;
  return found->type;
}

}  // namespace

const TypeInfo& type_info(WeightType type) {
  assert(static_cast<size_t>(type) < std::size(kTypes));
  return kTypes[static_cast<size_t>(type)];
}

std::span<const TypeInfo> all_types() { return kTypes; }

std::optional<WeightType> type_from_ggml(int64_t ggml_id) {
  return first_type([&](const TypeInfo& info) { return info.ggml_id >= 0 && info.ggml_id == ggml_id; });
}

std::optional<WeightType> type_from_safetensors(std::string_view dtype) {
  return first_type(
      [&](const TypeInfo& info) { return !info.safetensors.empty() && info.safetensors == dtype; });
}

std::optional<WeightType> type_from_name(std::string_view name) {
  return first_type([&](const TypeInfo& info) { return equal_letters(info.name, name); });
}

std::optional<uint64_t> row_bytes(WeightType type, uint64_t columns) {
  const TypeInfo& info = type_info(type);
  const auto elements = static_cast<uint64_t>(info.block_elements);
  uint64_t total = 0;
  if (columns % elements != 0) return std::nullopt;
  if (!multiply(columns / elements, static_cast<uint64_t>(info.block_bytes), total)) return std::nullopt;
  if (!add(total, static_cast<uint64_t>(info.row_header_bytes), total)) return std::nullopt;
  return total;
}

namespace {

const QuantPath* fastest_path() {
  static const QuantPath* const path =
      paths_on_this_machine().empty() ? nullptr : paths_on_this_machine().front();
  return path;
}

// Rows of a type whose rows begin with a header, each on its own.
template <class Out, class DecodeRow> void decode_rows_apart(const TypeInfo& info, const std::byte* in,
                                                             Out* out, int64_t rows, int64_t columns,
                                                             DecodeRow decode) {
  const int64_t blocks = columns / info.block_elements,
                stride = info.row_header_bytes + blocks * info.block_bytes;
  for (int64_t r = 0; r < rows; ++r) decode(in + r * stride, out + r * columns, blocks);
}

template <class Out> void decode_nf4_dq_rows(const std::byte* in, Out* out, int64_t rows, int64_t columns,
                                             void (*decode)(const uint8_t*, const float*, Out*, int64_t)) {
  std::vector<float> maxima(static_cast<size_t>(columns / kNf4Elements));
  decode_rows_apart(type_info(T::nf4_dq), in, out, rows, columns,
                    [&](const std::byte* row, Out* row_out, int64_t blocks) {
                      nf4_dq_maxima(row, maxima.data(), blocks);
                      decode(nf4_dq_codes(reinterpret_cast<const uint8_t*>(row), blocks, 0), maxima.data(),
                             row_out, blocks);
                    });
}

}  // namespace

void dequantize_rows(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns) {
  const TypeInfo& info = type_info(type);
  const QuantPath* path = fastest_path();
  if (type == T::nf4_dq && path) return decode_nf4_dq_rows(in, out, rows, columns, path->nf4_to_float);
  const auto faster = path ? path->decoder(type) : nullptr;
  const auto decode = faster ? faster : info.dequantize;
  if (info.row_header_bytes == 0) return decode(in, out, rows * (columns / info.block_elements));
  decode_rows_apart(info, in, out, rows, columns, decode);
}

void dequantize_rows_bf16(WeightType type, const std::byte* in, uint16_t* out, int64_t rows,
                          int64_t columns) {
  const TypeInfo& info = type_info(type);
  const QuantPath* path = fastest_path();
  if (type == T::nf4_dq && path) return decode_nf4_dq_rows(in, out, rows, columns, path->nf4_to_bf16);
  if (const auto decode = path ? path->bf16_decoder(type) : nullptr) {
    if (info.row_header_bytes == 0) return decode(in, out, rows * (columns / info.block_elements));
    return decode_rows_apart(info, in, out, rows, columns, decode);
  }
  std::vector<float> row(static_cast<size_t>(columns));
  decode_rows_apart(info, in, out, rows, columns, [&](const std::byte* stored, uint16_t* row_out, int64_t) {
    dequantize_rows(type, stored, row.data(), 1, columns);
    if (path)
      return path->bf16_decoder(T::f32)(reinterpret_cast<const std::byte*>(row.data()), row_out, columns);
    for (int64_t i = 0; i < columns; ++i) row_out[i] = float_to_bf16(row[static_cast<size_t>(i)]);
  });
}

namespace {

// A part of a row with a header is itself a row once the header and the part's bytes stand together.
void copy_row_part(const TypeInfo& info, const std::byte* row, int64_t columns, int64_t first, int64_t count,
                   std::byte* out) {
  const int64_t blocks = columns / info.block_elements, from = first / info.block_elements,
                some = count / info.block_elements;
  out = std::copy_n(row, info.row_header_bytes, out);
  row += info.row_header_bytes;
  if (info.type == T::nf4_dq) {  // the maxima of all blocks, then the codes of all blocks
    out = std::copy_n(row + from, some, out);
    std::copy_n(row + blocks + from * (info.block_bytes - 1), some * (info.block_bytes - 1), out);
  } else {
    std::copy_n(row + from * info.block_bytes, some * info.block_bytes, out);
  }
}

// `blocks` decodes a run of blocks of a type without row headers, `whole` rows of any type.
template <class Out, class Blocks, class Rows>
void decode_columns(WeightType type, const std::byte* in, Out* out, int64_t rows, int64_t columns,
                    int64_t first, int64_t count, Blocks blocks, Rows whole) {
  const TypeInfo& info = type_info(type);
  const auto stride = static_cast<int64_t>(*row_bytes(type, static_cast<uint64_t>(columns)));
  if (count == columns) return whole(type, in, out, rows, columns);
  if (info.row_header_bytes == 0) {
    in += first / info.block_elements * info.block_bytes;
    const auto number = count / info.block_elements;
    for (int64_t r = 0; r < rows; ++r) {
      if (blocks) blocks(in + r * stride, out + r * count, number);
      else whole(type, in + r * stride, out + r * count, 1, count);
    }
    return;
  }
  std::vector<std::byte> parts(static_cast<size_t>(rows) * *row_bytes(type, static_cast<uint64_t>(count)));
  for (int64_t r = 0; r < rows; ++r)
    copy_row_part(info, in + r * stride, columns, first, count,
                  parts.data() + static_cast<size_t>(r) * (parts.size() / static_cast<size_t>(rows)));
  whole(type, parts.data(), out, rows, count);
}

}  // namespace

void dequantize_columns(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns,
                        int64_t first, int64_t count) {
  const QuantPath* path = fastest_path();
  decode_columns(type, in, out, rows, columns, first, count, path ? path->decoder(type) : nullptr,
                 dequantize_rows);
}

void dequantize_columns_bf16(WeightType type, const std::byte* in, uint16_t* out, int64_t rows,
                             int64_t columns, int64_t first, int64_t count) {
  const QuantPath* path = fastest_path();
  decode_columns(type, in, out, rows, columns, first, count, path ? path->bf16_decoder(type) : nullptr,
                 dequantize_rows_bf16);
}

void quantize_rows(WeightType type, const float* in, std::byte* out, int64_t rows, int64_t columns) {
  const TypeInfo& info = type_info(type);
  if (info.quantize == nullptr)
    throw Failure(fmt::format("weight type {} can be read but not written", info.name));
  const QuantPath* path = fastest_path();
  if (path && type == T::bf16)
    return path->bf16_decoder(T::f32)(reinterpret_cast<const std::byte*>(in),
                                      reinterpret_cast<uint16_t*>(out), rows * columns);
  if (path && type == T::nf4) return nf4_encode_rows(in, out, rows, columns, path->nf4_encode);
  if (path && type == T::nf4_dq) return nf4_dq_encode_rows(in, out, rows, columns, path->nf4_encode);
  if (const auto encode = searching_encoder(type); path && encode)
    return encode(in, out, rows * (columns / info.block_elements), *path->search);
  info.quantize(in, out, rows, columns);
}

WeightType fitting_type(WeightType type, int64_t columns) {
  const auto fits = [&](WeightType candidate) { return columns % type_info(candidate).block_elements == 0; };
  if (fits(type)) return type;
  const auto narrower = [&] {
    switch (type) {
      case T::q4_k: return T::q5_0;
      case T::q5_k: return T::q5_1;
      case T::q6_k: return T::q8_0;
      case T::q2_k:
      case T::q3_k:
      case T::q2_0:
      case T::tq1_0:
      case T::tq2_0: return T::q4_0;
      case T::iq1_s:
      case T::iq1_m:
      case T::iq2_xxs:
      case T::iq2_xs:
      case T::iq2_s:
      case T::iq3_xxs:
      case T::iq3_s:
      case T::iq4_xs: return T::iq4_nl;
      case T::nf4:
      case T::nf4_dq: return T::int8_row;
      default: return type;
    }
  }();
  if (fits(narrower)) return narrower;
  return type == T::nf4 || type == T::nf4_dq || type == T::int8_row ? T::bf16 : T::f16;
}

}  // namespace retort
