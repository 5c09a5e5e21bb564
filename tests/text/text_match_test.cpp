#include "text/text_match.h"

#include <gtest/gtest.h>

namespace retort {

TEST(NormalisedAnswer, IsSquads) {
  EXPECT_EQ(normalised_answer("  The  quick, brown fox!  "), "quick brown fox");
  EXPECT_EQ(normalised_answer("\"The\" ship\tof a kind."), "ship of kind");
  EXPECT_EQ(normalised_answer("E11.9"), "e119");
}

TEST(NormalisedAnswer, TakesTheLetterAForAnAnswer) {
  EXPECT_EQ(normalised_answer("A."), "a");
  EXPECT_EQ(normalised_answer("Option A"), "option a");
  EXPECT_EQ(normalised_answer("A, B"), "a b");
  EXPECT_EQ(normalised_answer("A) the red one"), "a red one");
  EXPECT_EQ(normalised_answer("A red one"), "red one");
}

TEST(NormalisedAnswer, ReadsCharacters) {
  EXPECT_EQ(normalised_answer("\u00c4pfel \u201eund\u201c \u00c9clair\u2026"), "\u00e4pfel und \u00e9clair");
  EXPECT_EQ(normalised_answer("\u5e94\u5f53\u9a73\u56de\u3002"), "\u5e94\u5f53\u9a73\u56de");
  EXPECT_EQ(normalised_answer("cut \xe5\xba"), "cut \ufffd");
}

// 应当驳回 against 合同有效 share their first byte and no character; 应当 against 应当驳回 two of four.
TEST(Characters, AreWhatIsCompared) {
  EXPECT_FALSE(first_letter_equal("\u5e94\u5f53\u9a73\u56de", "\u5408\u540c\u6709\u6548"));
  EXPECT_TRUE(first_letter_equal("\u5e94\u5f53\u9a73\u56de", "\u5e94\u8be5"));
  EXPECT_FALSE(first_letter_equal("\u00e9", "\u00e8"));
  EXPECT_DOUBLE_EQ(prefix_share("\u5e94\u5f53\u9a73\u56de", "\u5e94\u5f53"), 0.5);
  EXPECT_DOUBLE_EQ(prefix_share("\u5e94\u5f53\u9a73\u56de", "\u5408"), 0);
  EXPECT_DOUBLE_EQ(token_f1("\u5e94\u5f53\u9a73\u56de", "\u5e94\u5f53\u9a73\u56de\u3002"), 1);
  EXPECT_DOUBLE_EQ(token_f1("\u5e94\u5f53\u9a73\u56de", "\u9a73\u56de"), 2.0 * 1 * 0.5 / 1.5);
  EXPECT_DOUBLE_EQ(token_f1("ISO\u6807\u51c6", "ISO \u6807\u51c6"), 1);
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
