#include "text/spelling_ids.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

namespace retort {

TEST(SpellingIds, FindsEachTokenAndNoOther) {
  std::vector<std::string> tokens = {"", "a", "b", "ab"};
  for (int i = 0; i < 5000; ++i) tokens.push_back(fmt::format("token {}", i));
  const SpellingIds ids(tokens);
  for (size_t id = 0; id < tokens.size(); ++id) EXPECT_EQ(ids.find(tokens[id]), static_cast<int32_t>(id));
  for (const auto* unknown : {"c", "ba", "token", "token 5000", "token 01"})
    EXPECT_EQ(ids.find(unknown), std::nullopt) << unknown;
}

TEST(SpellingIds, OfEqualSpellingsTheFirstCounts) {
  const std::vector<std::string> tokens = {"x", "y", "x", "y"};
  const SpellingIds ids(tokens);
  EXPECT_EQ(ids.find("x"), 0);
  EXPECT_EQ(ids.find("y"), 1);
  const std::vector<std::string> none;
  EXPECT_EQ(SpellingIds(none).find("x"), std::nullopt);
}

}  // namespace retort
