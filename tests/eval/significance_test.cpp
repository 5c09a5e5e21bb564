#include "eval/significance.h"

#include <gtest/gtest.h>

#include <cmath>

namespace retort {
namespace {

TaskResult scored(const std::vector<double>& scores, double weight = 1) {
  TaskResult result{"t", "completion", {}, {}, static_cast<int64_t>(scores.size()), 0, 0};
  for (size_t i = 0; i < scores.size(); ++i)
    result.samples.push_back({"f:" + std::to_string(i), "", "", scores[i], weight});
  return result;
}

// Wilson's interval of 5 of 10 is 0.2366 to 0.7634, of 0 of 10 it ends at z^2 / (10 + z^2).
TEST(ShareInterval, IsWilsons) {
  EXPECT_NEAR(share_interval(0.5, 10).low, 0.236593, 1e-5);
  EXPECT_NEAR(share_interval(0.5, 10).high, 0.763407, 1e-5);
  EXPECT_NEAR(share_interval(0, 10).low, 0, 1e-12);
  EXPECT_NEAR(share_interval(0, 10).high, 3.841459 / 13.841459, 1e-6);
  EXPECT_NEAR(share_interval(1, 10).high, 1, 1e-12);
}

// 2 against 10 of 12: 2 (1 + 12 + 66) / 4096.
TEST(McNemar, IsTheExactBinomial) {
  EXPECT_NEAR(mcnemar(2, 10), 158.0 / 4096, 1e-12);
  EXPECT_NEAR(mcnemar(10, 2), 158.0 / 4096, 1e-12);
  EXPECT_NEAR(mcnemar(0, 5), 2.0 / 32, 1e-12);
  EXPECT_EQ(mcnemar(0, 0), 1);
  EXPECT_EQ(mcnemar(7, 7), 1);
  EXPECT_LT(mcnemar(100, 2000), 1e-300 + 1e-100);
}

// The mean of 100 draws of 0 and 1 has a standard error of 0.05.
TEST(Bootstrap, CoversTheMeanAsItsStandardErrorSays) {
  const auto mean = [](const std::vector<size_t>& drawn) {
    double sum = 0;
    for (const auto i : drawn) sum += i < 50;
    return sum / static_cast<double>(drawn.size());
  };
  const auto interval = bootstrap_interval(100, mean);
  EXPECT_NEAR(interval.low, 0.5 - 0.098, 0.02);
  EXPECT_NEAR(interval.high, 0.5 + 0.098, 0.02);
  EXPECT_EQ(bootstrap_interval(100, mean).low, interval.low);
}

TEST(PairedScores, OfAFewAnswersIsInsideTheNoiseAndOfManyIsNot) {
  std::vector<double> first(100), second(100);
  for (size_t i = 0; i < 50; ++i) first[i] = second[i] = 1;
  for (size_t i = 50; i < 54; ++i) second[i] = 1;  // 4 more: 4 / 0, p = 2 / 16
  auto found = paired_scores(scored(first), scored(second));
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->second - found->first, 0.04, 1e-12);
  EXPECT_EQ(found->only_first, 0);
  EXPECT_EQ(found->only_second, 4);
  EXPECT_NEAR(*found->p, 0.125, 1e-12);
  EXPECT_TRUE(found->inside_noise());
  for (size_t i = 54; i < 70; ++i) second[i] = 1;
  found = paired_scores(scored(first), scored(second));
  EXPECT_FALSE(found->inside_noise());
  EXPECT_GT(found->interval.low, 0.1);
  EXPECT_LT(found->interval.high, 0.3);
}

TEST(PairedScores, OfNatsGoesByItsInterval) {
  std::vector<double> first(40), second(40);
  for (size_t i = 0; i < 40; ++i) {
    first[i] = 2 + std::sin(static_cast<double>(i));
    second[i] = first[i] - 0.1 - 0.05 * std::cos(static_cast<double>(i * i));
  }
  const auto found = paired_scores(scored(first, 3), scored(second, 3));
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->p);
  EXPECT_FALSE(found->inside_noise());
  EXPECT_NEAR(found->second - found->first, -0.1, 0.02);
  EXPECT_TRUE(paired_scores(scored(first), scored(first))->inside_noise());
}

TEST(PairedScores, NeedsTheSameSamples) {
  auto other = scored({1, 0});
  other.samples[1].id = "g:1";
  EXPECT_FALSE(paired_scores(scored({1, 0}), other));
  EXPECT_FALSE(paired_scores(scored({1, 0}), scored({1})));
  EXPECT_FALSE(paired_scores(scored({}), scored({})));
  EXPECT_FALSE(paired_scores(scored({NAN, 0}), scored({1, 0})));
}

}  // namespace
}  // namespace retort
