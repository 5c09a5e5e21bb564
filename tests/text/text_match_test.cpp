#include "text/text_match.h"

#include <gtest/gtest.h>

namespace retort {

TEST(NormalisedAnswer, IsSquads) {
  EXPECT_EQ(normalised_answer("  The  quick, brown fox!  "), "quick brown fox");
  EXPECT_EQ(normalised_answer("A."), "");
  EXPECT_EQ(normalised_answer("E11.9"), "e119");
}

TEST(TokenF1, IsTheHarmonicMeanOfWordPrecisionAndRecall) {
  EXPECT_DOUBLE_EQ(token_f1("the cat sat", "cat"), 2.0 * 1 * 0.5 / 1.5);  // precision 1, recall 1/2
  EXPECT_DOUBLE_EQ(token_f1("b b c", "b b b d"), 2.0 * 0.5 * (2.0 / 3) / (0.5 + 2.0 / 3));
  EXPECT_DOUBLE_EQ(token_f1("x", "y"), 0);
  EXPECT_DOUBLE_EQ(token_f1("", ""), 1);
  EXPECT_DOUBLE_EQ(token_f1("x", ""), 0);
}

TEST(PrefixShare, CountsCharactersFromTheStart) {
  EXPECT_DOUBLE_EQ(prefix_share("E11", " E12\n"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(prefix_share("E11", "E11.9"), 1);
  EXPECT_DOUBLE_EQ(prefix_share("E11", ""), 0);
  EXPECT_TRUE(first_letter_equal("E11", " E99"));
  EXPECT_FALSE(first_letter_equal("E11", ""));
  EXPECT_TRUE(first_line_equal("Category: Permissive\nObligations: none",
                               " Category: Permissive \nObligations: keep notices"));
  EXPECT_TRUE(first_line_equal("one line", "one line"));
  EXPECT_FALSE(
      first_line_equal("Category: Permissive\nObligations: none", "Category: Copyleft\nObligations: none"));
}

}  // namespace retort
