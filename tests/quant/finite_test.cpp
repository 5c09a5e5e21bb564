// What is found without decoding is what decoding would find.
#include "quant/finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/random.h"

namespace retort {
namespace {

TEST(FirstNotFinite, EqualsTheDecodedValuesOfEveryType) {
  for (const auto& info : all_types()) {
    if (!info.dequantize || info.row_header_bytes > 0 || info.type == WeightType::nf4) continue;
    const int64_t blocks = info.block_elements == 1 ? 9000 : 400;
    int found = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Draws draws(seed, info.name);
      std::vector<std::byte> stored(static_cast<size_t>(blocks * info.block_bytes));
      for (size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<std::byte>(draws.bits(i) & 0xFF);
      // Exponents that are all ones are rare in wide types: one is put at the end of the run.
      if (info.type == WeightType::f32) {
        for (size_t i = 3; i < stored.size(); i += 4) stored[i] &= std::byte{0xBF};
        std::memset(stored.data() + 4 * (7000 + seed), 0xFF, 4);
      }
      std::vector<float> values(static_cast<size_t>(blocks * info.block_elements));
      info.dequantize(stored.data(), values.data(), blocks);
      std::optional<int64_t> expected;
      for (size_t i = 0; i < values.size() && !expected; ++i)
        if (!std::isfinite(values[i])) expected = static_cast<int64_t>(i);
      const auto first = first_not_finite(info.type, stored);
      ASSERT_EQ(first.has_value(), expected.has_value()) << info.name << " " << seed;
      if (!first) continue;
      ++found;
      EXPECT_EQ(*first / info.block_elements, *expected / info.block_elements) << info.name << " " << seed;
    }
    const bool integers = info.name.starts_with("I") && !info.name.starts_with("IQ");
    if (!integers && info.type != WeightType::u8 && info.type != WeightType::boolean &&
        info.type != WeightType::packed4 && info.type != WeightType::mxfp4 &&
        info.type != WeightType::nvfp4) {
      EXPECT_GT(found, 0) << info.name;
    }
  }
}

TEST(FirstNotFinite, KnowsNothingAndInfinityOfEitherSign) {
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    std::vector<float> values(10'000, 3.4e38f);
    EXPECT_FALSE(first_not_finite(WeightType::f32, std::as_bytes(std::span(values))));
    values[9'999] = bad;
    EXPECT_EQ(first_not_finite(WeightType::f32, std::as_bytes(std::span(values))), 9'999);
    values[4'096] = bad;
    EXPECT_EQ(first_not_finite(WeightType::f32, std::as_bytes(std::span(values))), 4'096);
  }
  EXPECT_FALSE(first_not_finite(WeightType::f32, {}));
}

}  // namespace
}  // namespace retort
