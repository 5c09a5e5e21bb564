#include "eval/classes.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

Classes of(const std::vector<std::string>& expected, const std::vector<std::string>& given) {
  Classes classes;
  for (size_t i = 0; i < expected.size(); ++i) classes.add(expected[i], given[i]);
  return classes;
}

// The example of scikit-learn's documentation of f1_score: 0.8, 0 and 0 for the classes; 0.26... for both
// means.
TEST(Classes, F1IsThatOfScikitLearn) {
  const auto classes = of({"0", "1", "2", "0", "1", "2"}, {"0", "2", "1", "0", "0", "1"});
  EXPECT_NEAR(classes.macro_f1(), 0.8 / 3, 1e-12);
  EXPECT_NEAR(classes.weighted_f1(), 0.8 / 3, 1e-12);
  EXPECT_NEAR(classes.accuracy(), 2.0 / 6, 1e-12);
  EXPECT_NEAR(classes.majority(), 2.0 / 6, 1e-12);
}

// 4 a, 2 b. Given: a a a b | a b: a has 3 right of 4 given, 3 / 4 and 3 / 4; b has 1 of 2 given and 1 / 2.
// An answer that is no class takes away from recall alone.
TEST(Classes, WeightsAndForeignAnswersByHand) {
  const auto classes = of({"a", "a", "a", "a", "b", "b"}, {"a", "a", "a", "b", "a", "b"});
  EXPECT_NEAR(classes.macro_f1(), (0.75 + 0.5) / 2, 1e-12);
  EXPECT_NEAR(classes.weighted_f1(), (4 * 0.75 + 2 * 0.5) / 6, 1e-12);
  EXPECT_NEAR(classes.majority(), 4.0 / 6, 1e-12);
  const auto foreign = of({"a", "a", "b", "b"}, {"a", "A!", "b", "b"});
  EXPECT_NEAR(foreign.macro_f1(), (2.0 / 3 + 1) / 2, 1e-12);
  const auto table = foreign.table();
  ASSERT_EQ(table.size(), 2u);
  EXPECT_EQ(table[0].name, "a");
  EXPECT_EQ(table[0].given, 1);
  EXPECT_EQ(table[0].answers, (std::vector<int64_t>{1, 0, 1}));
  EXPECT_EQ(table[1].answers, (std::vector<int64_t>{0, 2, 0}));
}

// 39 of 100 answers are the first of ten codes: a model that knows two of them looks no worse than that.
TEST(Classes, AModelOfTwoCodesIsToldFromOneOfTen) {
  std::vector<std::string> expected, given;
  for (int i = 0; i < 100; ++i) {
    expected.push_back("E" + std::to_string(i < 39 ? 0 : 1 + i % 9));
    given.push_back(i < 30 ? "E0" : i < 39 ? "E1" : i % 9 == 0 ? "E1" : "E0");
  }
  const auto classes = of(expected, given);
  EXPECT_NEAR(classes.majority(), 0.39, 1e-12);
  EXPECT_NEAR(classes.accuracy(), 0.30 + 0.07, 1e-12);  // i = 45, 54, ..., 99: seven of E1
  EXPECT_LT(classes.macro_f1(), 0.15);
  const auto interval = classes.macro_f1_interval();
  EXPECT_LT(interval.low, classes.macro_f1());
  EXPECT_GT(interval.high, classes.macro_f1());
  EXPECT_EQ(classes.macro_f1_interval().low, interval.low);  // the same draws
  EXPECT_EQ(classes.table().size(), 10u);
}

TEST(Classes, AnswersThatDoNotRepeatAreNone) {
  EXPECT_TRUE(of({"a", "b", "c"}, {"a", "b", "c"}).table().empty());
  EXPECT_TRUE(of({"a", "a", "a"}, {"a", "b", "a"}).table().empty());
}

}  // namespace
}  // namespace retort
