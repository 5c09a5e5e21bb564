// Codes of 4 bits whose scales lie apart, as bitsandbytes, GPTQ and AWQ publish weights. Of a row of codes
// W[r,c] = (book[code] - zero[g]) * scale[g], in fp32 and in this order, where g is the group that (r, c) is
// in. Rows of codes are columns / 2 bytes.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace retort {

struct CodeGroups {
  const float* scales = nullptr;      // null: the matrix has none
  const uint8_t* zeros = nullptr;     // as many as scales; null: all are 0
  const int32_t* group_of = nullptr;  // of each column; null: column / group_columns
  // Groups of a row; 0: groups run on from one row to the next, as if the matrix were one long row.
  int64_t groups = 0;
  int64_t group_columns = 2;    // even
  const float* book = nullptr;  // the values of the 16 codes
  bool high_first = false;      // the first of two codes is in the high nibble
};

inline constexpr std::array<float, 16> kWholeCodes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
// bitsandbytes' FP4: sign, two bits of exponent, one of mantissa, divided by the largest, 12.
inline constexpr std::array<float, 16> kFp4Values = {
    0.0f,  0.0625f / 12,  8.0f / 12,  12.0f / 12,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    -0.0f, -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12};
// E2M1 (OCP microscaling formats 1.0, section 5.3.3): sign, two bits of exponent, one of mantissa.
inline constexpr std::array<float, 16> kE2m1Values = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                                      -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// Rows [row, row + rows), columns [first, first + count) of a matrix that is `columns` wide, to rows of
// `count`, with the fastest path of this machine; to bfloat16 rounded to nearest even. first, count and
// columns are even.
void decode_packed4(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                    int64_t rows, int64_t first, int64_t count, float* out);
void decode_packed4_bf16(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                         int64_t rows, int64_t first, int64_t count, uint16_t* out);

// Scales that are 8-bit codes themselves: map[code] * maxima[i / block] + offset, in fp32 and in this order.
void decode_nested_scales(const uint8_t* codes, int64_t count, const float* map, const float* maxima,
                          int64_t block, float offset, float* out);

// The definitions, which paths.h has faster. Groups that follow each other, of `columns` codes each (an even
// number); zeros may be null.
struct CodeRun {
  const uint8_t* codes;
  const float* scales;
  const uint8_t* zeros;
  const float* book;
  bool high_first;
};
void decode_code_groups(const CodeRun& run, int64_t groups, int64_t columns, float* out);
void decode_code_groups_bf16(const CodeRun& run, int64_t groups, int64_t columns, uint16_t* out);
// `count` codes (an even number) of a row whose columns are in groups of any order; the row's zero points are
// numbers here.
struct ScatteredRun {
  const uint8_t* codes;
  const float* scales;
  const float* zeros;
  const int32_t* group_of;
  const float* book;
  bool high_first;
};
void decode_scattered_codes(const ScatteredRun& run, int64_t count, float* out);
void decode_scattered_codes_bf16(const ScatteredRun& run, int64_t count, uint16_t* out);

// Codes alone, the first of two in the low nibble: what a matrix of this type holds without its scales.
void decode_codes4(const std::byte* in, float* out, int64_t pairs);

}  // namespace retort
