// Which layers a rank reads, and which texts go through them together: by hand.
#include "schedule/layer_cut.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

Ranges pairs(const std::vector<Share>& shares) {
  Ranges found;
  for (const auto& share : shares) found.emplace_back(share.begin, share.end);
  return found;
}

}  // namespace

TEST(LayerCut, TheRankWithTheMostBytesHasAsFewAsCanBe) {
  EXPECT_EQ(pairs(cut_layers({1, 1, 1, 1}, 1)), (Ranges{{0, 4}}));
  EXPECT_EQ(pairs(cut_layers({1, 1, 1, 1}, 2)), (Ranges{{0, 2}, {2, 4}}));
  EXPECT_EQ(pairs(cut_layers({1, 1, 1, 1, 8}, 2)), (Ranges{{0, 4}, {4, 5}}));
  // 3 + 3 and 9 and 4 + 5: no rank has more than 9, and any other cut has one with more.
  EXPECT_EQ(pairs(cut_layers({3, 3, 9, 4, 5}, 3)), (Ranges{{0, 2}, {2, 3}, {3, 5}}));
}

TEST(LayerCut, RanksBeyondTheLayersHaveNone) {
  EXPECT_EQ(pairs(cut_layers({7, 7}, 5)), (Ranges{{0, 1}, {1, 2}}));
}

TEST(LayerCut, GroupsAreAboutEqualAndHaveRoom) {
  const std::vector<int64_t> rows = {10, 10, 10, 10, 10, 10};
  const auto groups = [&](const GroupRule& rule) { return pairs(cut_groups(rows, rule)); };
  EXPECT_EQ(groups({.most_groups = 3, .most_rows = 1000}), (Ranges{{0, 2}, {2, 4}, {4, 6}}));
  EXPECT_EQ(groups({.most_groups = 1, .most_rows = 1000}), (Ranges{{0, 6}}));
  EXPECT_EQ(groups({.most_groups = 6, .least_rows = 35, .most_rows = 1000}), (Ranges{{0, 4}, {4, 6}}));
  EXPECT_EQ(groups({.most_groups = 6, .least_texts = 3, .most_rows = 1000}), (Ranges{{0, 3}, {3, 6}}));
  // Room for 25 rows is room for two texts, whatever else is wanted.
  EXPECT_EQ(groups({.most_groups = 1, .least_texts = 3, .least_rows = 35, .most_rows = 25}),
            (Ranges{{0, 2}, {2, 4}, {4, 6}}));
  EXPECT_EQ(groups({.most_groups = 1, .most_rows = 5}),
            (Ranges{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}}));
  EXPECT_TRUE(cut_groups({}, {}).empty());
}

// An expert of 256, of which a token chooses 8, meets one token of 32.
TEST(LayerCut, ExpertsNeedMoreRowsForTheSameWork) {
  ModelConfig dense, sparse;
  sparse.experts = 256, sparse.experts_per_token = 8;
  EXPECT_EQ(rows_worth_decoding(sparse), 32 * rows_worth_decoding(dense));
}

}  // namespace retort
