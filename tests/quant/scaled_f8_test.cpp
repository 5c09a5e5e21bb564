// F8_E4M3 with a grid of scales: values by hand, and every path against the definition, bit for bit.
#include "quant/scaled_f8.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <iostream>
#include <vector>

#include "quant/finite.h"
#include "quant/paths.h"

namespace retort {
namespace {

const std::vector<float> kScales = {1.0f, 0.5f, -3.0f, 0.0173f, 1.7e-3f, 0x1p-120f, 0x1p15f, 3.3e-38f, 1e-42f,
                                    0.0f, -0.0f, 6.1e35f,
                                    // about where a path may change its arithmetic: results that are
                                    // subnormal, infinite, or carry into the next exponent
                                    0x1p-110f, -0x1.fffffep-111f, 0x1p110f, 0x1.8p110f, -0x1p117f, 0x1.fep-3f,
                                    0x1.ffp-3f, 0x1.fffffep5f, INFINITY, NAN};

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}
bool same_word(uint16_t a, uint16_t b) {
  return a == b || (std::isnan(bf16_to_float(a)) && std::isnan(bf16_to_float(b)));
}

TEST(ScaledF8, MagnitudesAreThoseOfTheCodes) {
  EXPECT_EQ(kF8E4m3Magnitudes[0], 0.0f);
  EXPECT_EQ(kF8E4m3Magnitudes[1], 0x1p-9f);    // the smallest subnormal
  EXPECT_EQ(kF8E4m3Magnitudes[0x38], 1.0f);    // exponent 7 is 2^0
  EXPECT_EQ(kF8E4m3Magnitudes[0x7E], 448.0f);  // the largest
  for (size_t code = 0; code < 128; ++code)
    EXPECT_TRUE(same(kF8E4m3Magnitudes[code], f8_e4m3_to_float(static_cast<uint8_t>(code)))) << code;
}

TEST(ScaledF8, EveryPathEqualsTheDefinitionToTheBit) {
  if (paths_on_this_machine().empty()) GTEST_SKIP() << "this machine has neither AVX2 nor AVX-512";
  constexpr int64_t kStride = 3 * 128 + 7;
  std::vector<uint8_t> codes(3 * kStride);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  for (const auto* path : paths_on_this_machine())
    for (const float scale : kScales)
      for (const int64_t count : {1, 5, 16, 31, 32, 48, 64, 100, 128, 144, 300}) {
        constexpr int64_t kOut = 303;
        std::vector<float> expected(3 * kOut, 77.0f), decoded(3 * kOut, 77.0f);
        std::vector<uint16_t> rounded(3 * kOut, 77), words(3 * kOut, 77);
        f8_rectangle(codes.data() + 1, kStride, scale, expected.data(), kOut, 3, count);
        f8_rectangle_bf16(codes.data() + 1, kStride, scale, rounded.data(), kOut, 3, count);
        path->f8_to_float(codes.data() + 1, kStride, scale, decoded.data(), kOut, 3, count);
        path->f8_to_bf16(codes.data() + 1, kStride, scale, words.data(), kOut, 3, count);
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_TRUE(same(decoded[i], expected[i]))
              << path->name << " scale " << scale << " count " << count << " element " << i << ": "
              << decoded[i] << " " << expected[i];
          ASSERT_TRUE(same_word(words[i], rounded[i]))
              << path->name << " scale " << scale << " count " << count << " element " << i;
        }
      }
}

// 5 rows and 7 columns in blocks of 2 by 3: the last block row has one row, the last block column one column.
TEST(ScaledF8, EdgesOfTheGridAreCutOff) {
  const std::vector<float> scales = {1, 2, 3, 10, 20, 30, 100, 200, 300};
  const ScaleGrid grid{scales.data(), 3, 2, 3};
  std::vector<std::byte> ones(5 * 7, std::byte{0x38});
  std::vector<float> all(35);
  decode_scaled_f8(ones.data(), 7, grid, 0, 5, 0, 7, all.data());
  for (size_t i = 0; i < 5; ++i)
    for (size_t j = 0; j < 7; ++j) EXPECT_EQ(all[i * 7 + j], scales[i / 2 * 3 + j / 3]) << i << " " << j;
  std::vector<float> part(2 * 4);
  decode_scaled_f8(ones.data(), 7, grid, 3, 2, 2, 4, part.data());  // rows 3 and 4, columns 2 to 5
  EXPECT_EQ(part, (std::vector<float>{10, 20, 20, 20, 100, 200, 200, 200}));
  std::vector<uint16_t> words(2 * 4);
  decode_scaled_f8_bf16(ones.data(), 7, grid, 3, 2, 2, 4, words.data());
  for (size_t i = 0; i < words.size(); ++i) EXPECT_EQ(bf16_to_float(words[i]), part[i]);
}

TEST(ScaledF8, ACodeThatIsNoNumberIsFound) {
  std::vector<std::byte> codes(10000, std::byte{0x7E});
  EXPECT_EQ(first_not_finite(WeightType::f8_e4m3, codes), std::nullopt);
  codes[9001] = std::byte{0xFF};
  EXPECT_EQ(first_not_finite(WeightType::f8_e4m3, codes), 9001);
  codes[17] = std::byte{0x7F};
  EXPECT_EQ(first_not_finite(WeightType::f8_e4m3, codes), 17);
}

}  // namespace
}  // namespace retort
