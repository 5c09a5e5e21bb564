#include "quant/dynamic8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace retort {
namespace {

TEST(Dynamic8, ValuesRiseAndHoldZeroAndOne) {
  for (const auto map : {Dynamic8::with_sign, Dynamic8::without_sign}) {
    const auto values = dynamic8_values(map);
    for (size_t i = 1; i < 256; ++i) EXPECT_LT(values[i - 1], values[i]);
    EXPECT_EQ(values[255], 1.0f);
    EXPECT_EQ(dynamic8_code(map, 1.0f), 255);
    EXPECT_EQ(values[dynamic8_code(map, 0.0f)], 0.0f);
  }
  EXPECT_EQ(dynamic8_values(Dynamic8::without_sign)[0], 0.0f);
  EXPECT_FLOAT_EQ(dynamic8_values(Dynamic8::with_sign)[0],
                  -0.99296875f);  // the middle of the last of 64 parts of [0.1, 1], by hand
}

TEST(Dynamic8, EveryValueIsItsOwnCodeAndCodesAreNearest) {
  for (const auto map : {Dynamic8::with_sign, Dynamic8::without_sign}) {
    const auto values = dynamic8_values(map);
    for (int code = 0; code < 256; ++code)
      EXPECT_EQ(dynamic8_code(map, values[static_cast<size_t>(code)]), code);
    for (size_t i = 0; i + 1 < 256; ++i) {  // at every boundary: halfway goes down, the next float goes up
      const float middle = (values[i] + values[i + 1]) * 0.5f;
      EXPECT_EQ(dynamic8_code(map, middle), i);
      EXPECT_EQ(dynamic8_code(map, std::nextafter(middle, 2.0f)), i + 1);
    }
    for (int k = -4000; k <= 4000; ++k) {
      const float x =
          std::copysign(std::pow(static_cast<float>(std::abs(k)) / 4000.0f, 5.0f), static_cast<float>(k));
      const float chosen = std::fabs(values[dynamic8_code(map, x)] - x);
      for (const float value : values) ASSERT_LE(chosen, std::fabs(value - x) * 1.0000002f) << x;
    }
  }
}

TEST(Dynamic8, BlocksAreIndependentTheLastMayBeShortAndZerosStayZero) {
  std::vector<float> x(600, 0.0f), back(600, 9.0f);
  for (size_t i = 256; i < 512; ++i) x[i] = 1e-30f * static_cast<float>(i);
  x[599] = -7.0f;
  x[598] = std::nanf("");
  ASSERT_EQ(dynamic8_blocks(600), 3);
  std::vector<uint8_t> codes(600);
  std::vector<float> absmax(3);
  dynamic8_quantize(Dynamic8::with_sign, x.data(), 600, codes.data(), absmax.data());
  dynamic8_dequantize(Dynamic8::with_sign, codes.data(), absmax.data(), 600, back.data());
  EXPECT_EQ(absmax, (std::vector<float>{0.0f, 1e-30f * 511.0f, 7.0f}));
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(back[i], 0.0f);
  for (size_t i = 256; i < 512; ++i)
    EXPECT_NEAR(back[i] / x[i], 1.0f, 0.015f);   // 64 parts of a decade near the maximum
  EXPECT_NEAR(back[599], -7.0f, 7.0f * 0.008f);  // the map has no -1
}

}  // namespace
}  // namespace retort
