#include "generate/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/json.h"
#include "base/random.h"
#include "where.h"  // tests

namespace retort {

// Goldens: tools/golden/sampling.py (transformers' logits processors).
TEST(FilterLogits, EqualsTransformersProcessors) {
  const auto golden = read_json(std::string(source_dir()) + "/tests/golden/sampling.json");
  const auto input = golden.at("input").get<std::vector<float>>();
  const auto seen_list = golden.at("seen").get<std::vector<int32_t>>();
  const std::unordered_set<int32_t> seen(seen_list.begin(), seen_list.end());
  ASSERT_GE(golden.at("cases").size(), 9u);
  for (const auto& item : golden.at("cases")) {
    const auto& wanted = item.at("spec");
    SampleSpec spec;
    spec.temperature = wanted.value("temperature", 1.0);
    spec.top_k = wanted.value("top_k", int64_t{0});
    spec.top_p = wanted.value("top_p", 1.0);
    spec.min_p = wanted.value("min_p", 0.0);
    spec.repetition_penalty = wanted.value("repetition_penalty", 1.0);
    auto logits = input;
    filter_logits(logits, spec, seen);
    std::vector<int32_t> kept;
    for (size_t i = 0; i < logits.size(); ++i)
      if (std::isfinite(logits[i])) kept.push_back(static_cast<int32_t>(i));
    ASSERT_EQ(kept, item.at("kept").get<std::vector<int32_t>>()) << wanted;
    for (size_t i = 0; i < kept.size(); ++i)
      EXPECT_NEAR(logits[kept[i]], item.at("logits")[i].get<double>(), 2e-6) << wanted;
  }
}

TEST(FilterLogits, GreedyKeepsTheRepetitionPenaltyAndNothingElse) {
  SampleSpec spec;
  spec.top_k = 1;
  spec.repetition_penalty = 2;
  std::vector<float> logits = {4, 3, -1};
  EXPECT_EQ(next_token(logits, spec, {0, 2}, 0, 0), 1);  // 4 / 2 = 2 falls below 3
  EXPECT_EQ(logits, (std::vector<float>{2, 3, -2}));
}

TEST(DrawToken, FollowsTheCumulativeDistribution) {
  const std::vector<float> logits = {0.0f, -INFINITY, static_cast<float>(std::log(3.0)),
                                     -INFINITY};  // 1/4, 0, 3/4, 0
  EXPECT_EQ(draw_token(logits, 0.0), 0);
  EXPECT_EQ(draw_token(logits, 0.2499), 0);
  EXPECT_EQ(draw_token(logits, 0.2501), 2);
  EXPECT_EQ(draw_token(logits, 0.9999999999999999), 2);
}

TEST(NextToken, DrawsByFrequencyAndByKey) {
  SampleSpec spec;
  spec.temperature = 1;
  const std::vector<float> logits = {static_cast<float>(std::log(0.5)), static_cast<float>(std::log(0.3)),
                                     static_cast<float>(std::log(0.2))};
  std::map<int32_t, int> counts;
  for (int64_t answer = 0; answer < 100; ++answer) {
    for (int64_t step = 0; step < 100; ++step) {
      auto first = logits, second = logits;
      const auto token = next_token(first, spec, {}, answer, step);
      EXPECT_EQ(token, next_token(second, spec, {}, answer, step));
      ++counts[token];
    }
  }
  EXPECT_NEAR(counts[0], 5000, 200);  // 4 standard deviations
  EXPECT_NEAR(counts[1], 3000, 184);
  EXPECT_NEAR(counts[2], 2000, 160);
}

}  // namespace retort
