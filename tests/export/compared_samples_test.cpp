// Files are compared over as much of the held-out data as tells how near they are.
#include "export/compared_samples.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

// Samples of so many tokens, half of them supervised.
Samples samples_of(size_t count, size_t tokens) {
  std::vector<float> weights(tokens, 0);
  std::fill(weights.begin() + static_cast<std::ptrdiff_t>(tokens / 2), weights.end(), 1.0f);
  return std::vector<Sample>(count, {std::vector<int32_t>(tokens, 1), weights, "a sample"});
}

TEST(SamplesToCompare, AreAsManyAsHoldEnoughSupervisedTokens) {
  const ExportSpec spec;
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(100, 200)), 11u);  // 100 of each count: 1,100
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(100, 4000)), 8u);  // different texts, not one long one
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(100, 10)), 64u);
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(5, 10)), 5u);
  EXPECT_EQ(samples_to_compare(spec, true, Samples()), 0u);
}

TEST(SamplesToCompare, AreTheRecipesNumberWhereItHasOne) {
  ExportSpec spec;
  spec.compare_samples = 20;
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(100, 4000)), 20u);
  EXPECT_EQ(samples_to_compare(spec, true, samples_of(6, 10)), 6u);
  EXPECT_EQ(samples_to_compare(spec, false, samples_of(100, 10)), 4u);
}

}  // namespace
}  // namespace retort
