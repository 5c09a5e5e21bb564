#include "text/final_answer.h"

#include <gtest/gtest.h>

namespace retort {

TEST(FinalAnswer, PrefersTheLastBoxThenTheHashesThenTheLastNumber) {
  EXPECT_EQ(final_answer("first \\boxed{3}, then \\boxed{\\frac{1}{2}} done"), "\\frac{1}{2}");
  EXPECT_EQ(final_answer("so \\boxed 5$."), "5");
  EXPECT_EQ(final_answer("\\fbox{x^{2}}"), "x^{2}");
  EXPECT_EQ(final_answer("48 / 2 = 24\n#### 1,072\n"), "1,072");
  EXPECT_EQ(final_answer("Thus the answer is 3.5. I checked 7 times"), "3.5");
  EXPECT_EQ(final_answer("The final answer is: $12$"), "$12$");
  EXPECT_EQ(final_answer("we get 3 + 4 = 7."), "7");
  EXPECT_EQ(final_answer("it costs -1,234.50 dollars"), "-1,234.50");
  EXPECT_EQ(final_answer("ratio 3/4"), "3/4");
  EXPECT_EQ(final_answer("none at all"), std::nullopt);
  EXPECT_EQ(final_answer(""), std::nullopt);
}

// The expected strings are those of the MATH benchmark's own normaliser, worked by hand from its rules.
TEST(NormalisedFormula, FollowsTheBenchmarksRules) {
  EXPECT_EQ(normalised_formula("\\dfrac{1}{2}"), "\\frac{1}{2}");
  EXPECT_EQ(normalised_formula("\\frac12"), "\\frac{1}{2}");
  EXPECT_EQ(normalised_formula("\\frac1{72}"), "\\frac{1}{72}");
  EXPECT_EQ(normalised_formula("3/4"), "\\frac{3}{4}");
  EXPECT_EQ(normalised_formula("0.5"), "\\frac{1}{2}");
  EXPECT_EQ(normalised_formula(".5"), "\\frac{1}{2}");
  EXPECT_EQ(normalised_formula("x = 5"), "5");
  EXPECT_EQ(normalised_formula("\\sqrt3"), "\\sqrt{3}");
  EXPECT_EQ(normalised_formula("90^\\circ"), "90");
  EXPECT_EQ(normalised_formula("\\left( 1, 2 \\right)"), "(1,2)");
  EXPECT_EQ(normalised_formula("10\\text{ cm}"), "10");
  EXPECT_EQ(normalised_formula("\\text{Monday}"), "Monday");
  EXPECT_EQ(normalised_formula("\\$5"), "5");
  EXPECT_EQ(normalised_formula("50\\%"), "50");
}

TEST(EqualAnswers, AgreeAsFormulasOrAsNumbers) {
  EXPECT_TRUE(equal_answers("\\frac{3}{4}", "0.75"));
  EXPECT_TRUE(equal_answers("1,234", "1234.0"));
  EXPECT_TRUE(equal_answers("1,234,567", "1234567"));
  EXPECT_TRUE(equal_answers("-\\frac12", "-0.5"));
  EXPECT_TRUE(equal_answers("18", "$18$"));
  EXPECT_TRUE(equal_answers("x^{2}+1", "x^{2} + 1"));
  EXPECT_FALSE(equal_answers("(1,2)", "12"));
  EXPECT_FALSE(equal_answers("1,23", "123"));
  EXPECT_FALSE(equal_answers("2", "3"));
  EXPECT_FALSE(equal_answers("5", ""));
  EXPECT_FALSE(equal_answers("\\frac{1}{0}", "1"));
}

TEST(FinalAnswer, SurvivesBrokenLatex) {
  for (const auto* text :
       {"\\boxed{", "\\boxed", "\\boxed{{}", "\\frac", "\\frac{", "\\frac{1}", "\\frac{1}{", "\\sqrt", "/",
        "=", "\\text{", "$", "-", ".", "1/", "\\frac\\frac"}) {
    final_answer(text);
    normalised_formula(text);
    number_of(text);
    EXPECT_TRUE(equal_answers(text, text));
  }
}

}  // namespace retort
