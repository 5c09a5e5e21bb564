#include "forest/later_rows.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

TEST(LaterRows, AreThoseThatARowStandsInFrontOf) {
  Forest forest;
  const auto prompt = forest.add_segment({5, 6, 7});
  forest.add_segment({8, 9}, prompt);
  forest.add_segment({10}, prompt);
  const auto one = forest.add_segment({11});  // a text's only shared token
  forest.add_segment({12, 13}, one);
  forest.add_segment({14});  // a text of one row
  for (const auto& [row, label] : {std::pair(0, 6), std::pair(2, 8), std::pair(2, 10), std::pair(3, 9),
                                   std::pair(5, 99), std::pair(6, 12), std::pair(7, 13), std::pair(9, 15)})
    forest.targets.push_back({row, label, 0.5f, label});
  check_forest(forest);

  const auto later = later_rows(forest);
  check_forest(later.forest);
  EXPECT_EQ(later.forest.tokens, (std::vector<int32_t>{6, 7, 8, 9, 10, 12, 13}));
  EXPECT_EQ(later.forest.positions, (std::vector<int32_t>{0, 1, 2, 3, 2, 0, 1}));
  EXPECT_EQ(later.before, (std::vector<int32_t>{0, 1, 2, 3, 2, 6, 7}));
  ASSERT_EQ(later.forest.segments.size(), 4u);
  EXPECT_EQ(later.forest.segments[1].parent, 0);
  EXPECT_EQ(later.forest.segments[2].parent, 0);
  EXPECT_EQ(later.forest.segments[3].parent, -1);
  // What a text's first row predicts is the next token of it, and the token after the next of none.
  std::vector<std::pair<int32_t, int32_t>> targets;
  for (const auto& target : later.forest.targets) {
    targets.emplace_back(target.row, target.label);
    EXPECT_EQ(target.weight, 0.5f);
    EXPECT_EQ(target.sample, target.label);
  }
  EXPECT_EQ(targets, (std::vector<std::pair<int32_t, int32_t>>{{1, 8}, {1, 10}, {2, 9}, {4, 99}, {5, 13}}));
}

TEST(LaterRows, OfTextsOfOneRowThereAreNone) {
  Forest forest;
  forest.add_segment({3});
  forest.targets.push_back({0, 4, 1, 0});
  const auto later = later_rows(forest);
  EXPECT_EQ(later.forest.size(), 0);
  EXPECT_TRUE(later.before.empty());
  EXPECT_TRUE(later.forest.targets.empty());
}

}  // namespace
}  // namespace retort
