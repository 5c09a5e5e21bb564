// How eight elements that follow each other are decoded, one format a type. Arithmetic is that of quant/:
// what a format does here is to say which part of a block the eight are in, and to look codes up in a book
// that the block of threads shares, since a GPU reads a table of constants at one address at a time.
#pragma once
#include "quant/blocks32.h"
#include "quant/code_books.h"
#include "quant/int8_row.h"
#include "quant/k_blocks.h"
#include "quant/nf4.h"
#include "quant/small_floats.h"
#include "quant/types.h"

namespace retort {

// `Entry` and kEntries: the book. Of a format of blocks also Block, kElements and
//   decode8(block, eighth, book, out)   elements 8 * eighth and those behind it
struct NoBook {
  using Entry = float;
  static constexpr int kEntries = 0;
};

template <class Stored, int kCount, float (*kValue)(const Stored&, int)> struct ValueFormat : NoBook {
  using Block = Stored;
  static constexpr int kElements = kCount;
  HOST_DEVICE static void decode8(const Block& block, int eighth, const float*, float* out) {
    for (int j = 0; j < 8; ++j) out[j] = kValue(block, 8 * eighth + j);
  }
};

// Codes of 4 bits: the value of the code times a scale that eight neighbours share.
template <class Stored, int kCount, int (*kCode)(const Stored&, int), float (*kScale)(const Stored&, int)>
struct CodeFormat {
  using Block = Stored;
  using Entry = float;
  static constexpr int kElements = kCount, kEntries = 16;
  HOST_DEVICE static void decode8(const Block& block, int eighth, const float* book, float* out) {
    const float scale = kScale(block, 8 * eighth);
    for (int j = 0; j < 8; ++j) out[j] = book[kCode(block, 8 * eighth + j)] * scale;
  }
};

template <class Stored, int kBook, void (*kGroup)(const Stored&, int, const uint16_t*, float*)>
struct BookFormat {
  using Block = Stored;
  using Entry = uint16_t;
  static constexpr int kElements = 256, kEntries = kBook;
  HOST_DEVICE static void decode8(const Block& block, int eighth, const uint16_t* book, float* out) {
    kGroup(block, eighth, book, out);
  }
};

HOST_DEVICE inline int nf4_block_code(const Nf4Block& block, int i) { return nf4_code_at(block.codes, i); }
HOST_DEVICE inline float nf4_block_scale(const Nf4Block& block, int) { return load_float(block.absmax); }

// Formats without blocks, or with a header before each row (decode_body.h).
struct Int8Rows : NoBook {};
struct Nf4DqRows {  // the values of the 16 codes, then those of the 256 codes of maxima
  using Entry = float;
  static constexpr int kEntries = 16 + 256;
};
struct ScaledF8 : NoBook {};
struct Packed4 {
  using Entry = float;
  static constexpr int kEntries = 16;
};

// Calls use(format) with the format of a type of blocks. False, and no call, for another type.
template <class Use> bool with_block_format(WeightType type, Use&& use) {
  using T = WeightType;
  switch (type) {
    case T::q4_0: use(ValueFormat<Q4_0Block, 32, q4_0_value>()); return true;
    case T::q4_1: use(ValueFormat<Q4_1Block, 32, q4_1_value>()); return true;
    case T::q5_0: use(ValueFormat<Q5_0Block, 32, q5_0_value>()); return true;
    case T::q5_1: use(ValueFormat<Q5_1Block, 32, q5_1_value>()); return true;
    case T::q8_0: use(ValueFormat<Q8_0Block, 32, q8_0_value>()); return true;
    case T::q8_1: use(ValueFormat<Q8_1Block, 32, q8_1_value>()); return true;
    case T::q2_k: use(ValueFormat<Q2_KBlock, 256, q2_k_value>()); return true;
    case T::q3_k: use(ValueFormat<Q3_KBlock, 256, q3_k_value>()); return true;
    case T::q4_k: use(ValueFormat<Q4_KBlock, 256, q4_k_value>()); return true;
    case T::q5_k: use(ValueFormat<Q5_KBlock, 256, q5_k_value>()); return true;
    case T::q6_k: use(ValueFormat<Q6_KBlock, 256, q6_k_value>()); return true;
    case T::q8_k: use(ValueFormat<Q8_KBlock, 256, q8_k_value>()); return true;
    case T::iq1_s: use(BookFormat<Iq1SBlock, 2048, iq1_s_group>()); return true;
    case T::iq1_m: use(BookFormat<Iq1MBlock, 2048, iq1_m_group>()); return true;
    case T::iq2_xxs: use(BookFormat<Iq2XxsBlock, 256, iq2_xxs_group>()); return true;
    case T::iq2_xs: use(BookFormat<Iq2XsBlock, 512, iq2_xs_group>()); return true;
    case T::iq2_s: use(BookFormat<Iq2SBlock, 1024, iq2_s_group>()); return true;
    case T::iq3_xxs: use(BookFormat<Iq3XxsBlock, 256, iq3_xxs_group>()); return true;
    case T::iq3_s: use(BookFormat<Iq3SBlock, 512, iq3_s_group>()); return true;
    case T::iq4_nl: use(CodeFormat<Iq4NlBlock, 32, iq4_nl_code, iq4_nl_scale>()); return true;
    case T::iq4_xs: use(CodeFormat<Iq4XsBlock, 256, iq4_xs_code, iq4_xs_scale>()); return true;
    case T::tq1_0: use(ValueFormat<Tq1_0Block, 256, tq1_0_value>()); return true;
    case T::tq2_0: use(ValueFormat<Tq2_0Block, 256, tq2_0_value>()); return true;
    case T::q1_0: use(ValueFormat<Q1_0Block, 128, q1_0_value>()); return true;
    case T::q2_0: use(ValueFormat<Q2_0Block, 64, q2_0_value>()); return true;
    case T::mxfp4: use(CodeFormat<Mxfp4Block, 32, mxfp4_code, mxfp4_scale>()); return true;
    case T::nvfp4: use(CodeFormat<Nvfp4Block, 64, nvfp4_code, nvfp4_scale>()); return true;
    case T::nf4: use(CodeFormat<Nf4Block, 64, nf4_block_code, nf4_block_scale>()); return true;
    default: return false;
  }
}

// The same with the format of a type whose rows are decoded in place.
template <class Use> bool with_row_format(WeightType type, Use&& use) {
  switch (type) {
    case WeightType::int8_row: use(Int8Rows()); return true;
    case WeightType::nf4_dq: use(Nf4DqRows()); return true;
    case WeightType::f8_e4m3: use(ScaledF8()); return true;
    case WeightType::packed4: use(Packed4()); return true;
    default: return false;
  }
}

}  // namespace retort
