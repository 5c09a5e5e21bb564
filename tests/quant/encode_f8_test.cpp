// F8_E4M3 as it is written: codes by hand and against a search of all of them, scales by the writers' rule.
#include "quant/encode_f8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "quant/scaled_f8.h"

namespace retort {
namespace {

TEST(EncodeF8, EveryCodeIsItsOwnNumbersCode) {
  for (int code = 0; code < 256; ++code) {
    const auto found = float_to_f8_e4m3(f8_e4m3_to_float(static_cast<uint8_t>(code)));
    EXPECT_EQ(found, code) << code;  // -0 and both NaNs, too
  }
}

TEST(EncodeF8, BetweenTwoCodesTheNearerOneAndTheEvenOne) {
  for (uint8_t code = 0; code < 0x7E; ++code) {
    const float low = f8_e4m3_to_float(code), high = f8_e4m3_to_float(static_cast<uint8_t>(code + 1)),
                middle = (low + high) / 2;
    const auto even = static_cast<uint8_t>(code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(float_to_f8_e4m3(middle), even) << int{code};
    EXPECT_EQ(float_to_f8_e4m3(std::nextafter(middle, 0.0f)), code) << int{code};
    EXPECT_EQ(float_to_f8_e4m3(std::nextafter(middle, 1e9f)), code + 1) << int{code};
    EXPECT_EQ(float_to_f8_e4m3(-middle), even | 0x80) << int{code};
  }
  EXPECT_EQ(float_to_f8_e4m3(449), 0x7E);  // there is no infinity: the largest
  EXPECT_EQ(float_to_f8_e4m3(-std::numeric_limits<float>::infinity()), 0xFE);
}

TEST(EncodeF8, ScalesAreTheLargestOver448) {
  EXPECT_EQ(f8_block_scale(448, WeightType::f32, false), 1);
  EXPECT_EQ(f8_block_scale(1, WeightType::f32, false), 1.0f / 448);
  EXPECT_EQ(f8_block_scale(1, WeightType::bf16, false), bf16_to_float(float_to_bf16(1.0f / 448)));
  EXPECT_EQ(f8_block_scale(1, WeightType::f16, false), half_to_float(float_to_half(1.0f / 448)));
  EXPECT_EQ(f8_block_scale(1, WeightType::f32, true), 1.0f / 256);  // the next power of two upwards
  EXPECT_EQ(f8_block_scale(448.0f / 256, WeightType::f32, true), 1.0f / 256);  // and not the one after it
  EXPECT_EQ(f8_block_scale(1, WeightType::f8_e8m0, false), 1.0f / 256);
  EXPECT_EQ(f8_block_scale(0, WeightType::f32, false), 1);
}

}  // namespace
}  // namespace retort
