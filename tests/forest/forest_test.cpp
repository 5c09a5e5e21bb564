#include "forest/forest.h"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "base/random.h"

namespace retort {
namespace {

Sample sample(std::vector<int32_t> tokens, size_t supervised_from) {
  Sample made{std::move(tokens), {}, "s"};
  for (size_t i = 0; i < made.tokens.size(); ++i) made.weights.push_back(i >= supervised_from ? 1.0f : 0.0f);
  return made;
}

// The tokens that the hidden state at `row` has seen, root first.
std::vector<int32_t> history(const Forest& forest, int32_t row) {
  for (const auto& block : attend_blocks(forest)) {
    if (row < block.q_begin || row >= block.q_end) continue;
    std::vector<int32_t> seen;
    for (const auto& range : block.keys)
      for (int32_t r = range.begin; r < range.end && !(r > row && r < block.q_end && r >= block.q_begin); ++r)
        seen.push_back(forest.tokens[r]);
    return seen;
  }
  return {};
}

}  // namespace

TEST(BuildForests, SharesAPromptAndKeepsEveryPrediction) {
  const std::vector<Sample> samples = {sample({1, 2, 3, 4, 5, 10, 11}, 5), sample({1, 2, 3, 4, 5, 20}, 5),
                                       sample({9, 8}, 1)};
  Saving saving;
  const auto forests = build_forests(samples, 100, 2, &saving);
  ASSERT_EQ(forests.size(), 1u);
  // Rows: shared 1..5, then 10 (11 is never a row), then 9; 20 predicts nothing.
  EXPECT_EQ(forests[0].size(), 7);
  EXPECT_EQ(saving.plain_rows, 6 + 5 + 1);
  EXPECT_EQ(saving.forest_rows, 7);
  EXPECT_EQ(forests[0].targets.size(), 4u);  // 10, 11, 20, 8
}

TEST(BuildForests, EveryTargetSeesExactlyItsOwnPrefix) {
  const Draws draws(7, "forest test");
  std::vector<Sample> samples;
  for (uint64_t s = 0; s < 200; ++s) {
    std::vector<int32_t> tokens;
    const auto length = 1 + draws.below(s * 100, 12);
    for (uint64_t i = 0; i < length; ++i)
      tokens.push_back(static_cast<int32_t>(draws.below(s * 100 + i + 1, 2)));
    samples.push_back(sample(tokens, 1));
  }
  for (const int64_t budget : {1, 8, 50, 100000}) {
    for (const int64_t shortest : {1, 3}) {
      std::map<std::pair<int32_t, size_t>, int> found;  // (sample, predicted index)
      for (const auto& forest : build_forests(samples, budget, shortest)) {
        check_forest(forest);
        for (const auto& target : forest.targets) {
          const auto seen = history(forest, target.row);
          const auto& tokens = samples[target.sample].tokens;
          ASSERT_LT(seen.size(), tokens.size());
          EXPECT_TRUE(std::equal(seen.begin(), seen.end(), tokens.begin()));
          EXPECT_EQ(target.label, tokens[seen.size()]);
          ++found[{target.sample, seen.size()}];
        }
      }
      size_t expected = 0;
      for (const auto& s : samples) expected += s.tokens.size() - 1;
      EXPECT_EQ(found.size(), expected);
      for (const auto& [key, count] : found) EXPECT_EQ(count, 1);
    }
  }
}

TEST(AttendBlocks, MergeAdjacentRangesAndKeepThePath) {
  Forest forest;
  const auto root = forest.add_segment({1, 2, 3});
  forest.add_segment({4, 5}, root);  // rows 3..5, adjacent to the root
  forest.add_segment({6}, root);     // row 5
  const auto blocks = attend_blocks(forest);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[1].keys.size(), 1u);
  EXPECT_EQ(blocks[1].key_count(), 5);
  EXPECT_EQ(blocks[2].keys.size(), 2u);
  EXPECT_EQ(forest.positions[5], 3);
  EXPECT_EQ(attend_pairs(forest), 6 + (2 * 3 + 3) + (3 + 1));
}

TEST(CheckForest, FindsBrokenRules) {
  Forest forest;
  forest.add_segment({1, 2});
  forest.positions[1] = 0;
  EXPECT_THROW(check_forest(forest), std::logic_error);
}

}  // namespace retort
