#include "quant/types.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/blocks32.h"
#include "quant/dense.h"
#include "quant/k_blocks.h"
#include "quant/nf4.h"

namespace retort {
namespace {

TEST(Types, IdsNamesAndDtypesFindTheirRow) {
  EXPECT_EQ(type_from_ggml(12), WeightType::q4_k);
  EXPECT_EQ(type_from_ggml(30), WeightType::bf16);
  EXPECT_EQ(type_from_ggml(39), WeightType::mxfp4);
  EXPECT_EQ(type_from_ggml(4), std::nullopt);   // Q4_2, removed from the format
  EXPECT_EQ(type_from_ggml(-1), std::nullopt);  // types that GGUF has not
  EXPECT_EQ(type_from_ggml(int64_t{1} << 40), std::nullopt);
  EXPECT_EQ(type_from_safetensors("F8_E4M3"), WeightType::f8_e4m3);
  EXPECT_EQ(type_from_safetensors(""), std::nullopt);
  EXPECT_EQ(type_from_safetensors("f32"), std::nullopt);
  EXPECT_EQ(type_from_name("q4_k"), WeightType::q4_k);
  EXPECT_EQ(type_from_name("NF4"), WeightType::nf4);
  EXPECT_EQ(type_from_name("int8"), WeightType::int8_row);
  EXPECT_EQ(type_from_name("Q4_K_M"), std::nullopt);
}

TEST(Types, RowBytesCountsHeadersAndRefusesRaggedOrHugeRows) {
  EXPECT_EQ(row_bytes(WeightType::q4_k, 512), 288u);
  EXPECT_EQ(row_bytes(WeightType::q8_0, 576), 612u);
  EXPECT_EQ(row_bytes(WeightType::nf4, 576), 324u);
  EXPECT_EQ(row_bytes(WeightType::nf4_dq, 576), 8u + 9 * 33);
  EXPECT_EQ(row_bytes(WeightType::int8_row, 576), 580u);
  EXPECT_EQ(row_bytes(WeightType::q4_k, 576), std::nullopt);
  EXPECT_EQ(row_bytes(WeightType::f64, uint64_t{1} << 61), std::nullopt);
}

TEST(Types, FittingTypeFollowsLlamaCpp) {
  EXPECT_EQ(fitting_type(WeightType::q4_k, 512), WeightType::q4_k);
  EXPECT_EQ(fitting_type(WeightType::q4_k, 576), WeightType::q5_0);
  EXPECT_EQ(fitting_type(WeightType::q5_k, 576), WeightType::q5_1);
  EXPECT_EQ(fitting_type(WeightType::q6_k, 576), WeightType::q8_0);
  EXPECT_EQ(fitting_type(WeightType::q3_k, 576), WeightType::q4_0);
  EXPECT_EQ(fitting_type(WeightType::iq4_xs, 576), WeightType::iq4_nl);
  EXPECT_EQ(fitting_type(WeightType::q4_k, 100), WeightType::f16);
  EXPECT_EQ(fitting_type(WeightType::q8_0, 100), WeightType::f16);
  EXPECT_EQ(fitting_type(WeightType::nf4, 96), WeightType::int8_row);
  EXPECT_EQ(fitting_type(WeightType::nf4, 100), WeightType::bf16);
}

TEST(Types, EveryTypeDecodesHostileBytesWithoutReadingBeyondThem) {  // all bytes 0xFF; the sanitizer preset
                                                                     // watches the ends
  for (const auto& info : all_types()) {
    const int64_t columns = info.block_elements * 2;
    std::vector<std::byte> row(*row_bytes(info.type, static_cast<uint64_t>(columns)), std::byte{0xFF});
    std::vector<float> out(static_cast<size_t>(columns), 1234.5f);
    dequantize_rows(info.type, row.data(), out.data(), 1, columns);
    for (const float value : out) EXPECT_NE(value, 1234.5f) << info.name;
  }
}

TEST(Types, EveryEncoderTakesAnyFloats) {  // not finite, subnormal, near overflow: some code, never undefined
                                           // behaviour
  const float hostile[] = {std::nanf(""), INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f,
                           -1e-45f,       1e-38f,   0.0f,      -0.0f,   1.0f};
  for (const auto& info : all_types()) {
    if (!can_quantize(info.type)) continue;
    const int64_t columns = info.block_elements * 2;
    std::vector<std::byte> row(*row_bytes(info.type, static_cast<uint64_t>(columns)));
    std::vector<float> x(static_cast<size_t>(columns)), out(x.size());
    for (size_t pattern = 0; pattern < 120; ++pattern) {
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = hostile[(pattern + i * (pattern % 7)) % std::size(hostile)];
      quantize_rows(info.type, x.data(), row.data(), 1, columns);
      info.quantize(x.data(), row.data(), 1, columns);
      dequantize_rows(info.type, row.data(), out.data(), 1, columns);
    }
  }
}

TEST(Dense, EightBitFloatsDecodeToTheValuesOfTheOcpTables) {
  EXPECT_EQ(f8_e4m3_to_float(0x7E), 448.0f);
  EXPECT_EQ(f8_e4m3_to_float(0x01), 0x1p-9f);
  EXPECT_EQ(f8_e4m3_to_float(0xB8), -1.0f);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float(0xFF)));
  EXPECT_EQ(f8_e5m2_to_float(0x7B), 57344.0f);
  EXPECT_EQ(f8_e5m2_to_float(0x01), 0x1p-16f);
  EXPECT_TRUE(std::isinf(f8_e5m2_to_float(0x7C)));
  EXPECT_EQ(f8_e8m0_to_float(127), 1.0f);
  EXPECT_EQ(f8_e8m0_to_float(0), 0x1p-127f);
  EXPECT_TRUE(std::isnan(f8_e8m0_to_float(255)));
}

TEST(Q4_0, ExtremeMapsToCodeZeroByHand) {  // x = -8, .., so scale = 1 and the codes are x + 8
  float x[32] = {};
  x[0] = -8;
  x[5] = 3;
  x[21] = 7;
  Q4_0Block block;
  q4_0_encode(x, block);
  EXPECT_EQ(load_half(block.scale), 1.0f);
  EXPECT_EQ(block.codes[0], 0x80);  // elements 0 and 16
  EXPECT_EQ(block.codes[5], 0xFB);  // elements 5 and 21
  for (int i = 0; i < 32; ++i) EXPECT_EQ(q4_0_value(block, i), x[i]);
}

// The largest is 127, so the scale is 1: every value near a half goes where std::round takes it.
TEST(Q8_0, HalvesGoAwayFromZero) {
  std::vector<float> values;
  for (int whole = -126; whole < 127; ++whole)
    for (const float value : {static_cast<float>(whole), static_cast<float>(whole) + 0.5f})
      for (const float towards : {-200.0f, value, 200.0f}) values.push_back(std::nextafter(value, towards));
  values.push_back(std::nanf(""));
  for (size_t first = 0; first < values.size(); first += 31) {
    float x[32] = {127};
    const auto count = std::min<size_t>(31, values.size() - first);
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(first), count, x + 1);
    Q8_0Block block;
    q8_0_encode(x, block);
    EXPECT_EQ(load_half(block.scale), 1.0f);
    for (size_t i = 0; i <= count; ++i)
      EXPECT_EQ(block.codes[i], std::isnan(x[i]) ? -128 : static_cast<int>(std::round(x[i]))) << x[i];
  }
}

TEST(K_Blocks, ScalesOfTheUpperSubBlocksComeFromSpareBits) {
  uint8_t scales[12] = {};
  scales[1] = 0xC0 | 5;  // sub-block 1: scale 5; top bits 3 of sub-block 5's scale
  scales[5] = 0x40 | 9;  // sub-block 1: minimum 9; top bits 1 of sub-block 5's minimum
  scales[9] = 0xA7;      // sub-block 5: low nibbles, scale 7, minimum 10
  EXPECT_EQ(k_sub_scale(scales, 1), 5);
  EXPECT_EQ(k_sub_minimum(scales, 1), 9);
  EXPECT_EQ(k_sub_scale(scales, 5), 7 + 48);
  EXPECT_EQ(k_sub_minimum(scales, 5), 10 + 16);
}

TEST(Nf4, CodesAreNearestAndTiesGoDown) {
  for (int code = 0; code < 16; ++code) EXPECT_EQ(nf4_code(nf4_value(code)), code);
  EXPECT_EQ(nf4_code((nf4_value(3) + nf4_value(4)) * 0.5f), 3);
  EXPECT_EQ(nf4_code(std::nanf("")), 0);
}

}  // namespace
}  // namespace retort
