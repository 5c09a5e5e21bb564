// Public cases of MATH, lm-evaluation-harness and Math-Verify: where three judges agree whether two answers
// are equal, so does retort. The verdicts are made by tools/golden/answer_cases.py.
#include <gtest/gtest.h>

#include "base/json.h"
#include "text/final_answer.h"
#include "where.h"  // tests

namespace retort {
namespace {

Json cases() {
  return read_json(std::string(source_dir()) + "/tests/golden/scores/answer_cases.json")["cases"];
}

// Math-Verify's cases are texts in which an answer stands, the others are answers.
bool equal_here(const Json& one) {
  const std::string gold = one["gold"], pred = one["pred"];
  if (!one["source"].get<std::string>().starts_with("Math-Verify")) return equal_answers(gold, pred);
  const auto got = final_answer(pred);
  return got && (equal_answers(gold, *got) || equal_answers(final_answer(gold).value_or(gold), *got));
}

TEST(AnswerCases, AreJudgedAsThePublicJudgesDoWhereTheyAgree) {
  int64_t equal = 0, different = 0;
  for (const auto& one : cases()) {
    const bool first = one["equal"]["hendrycks_math"];
    if (one["equal"]["minerva_math"] != first || one["equal"]["math_verify"] != first) continue;
    ++(first ? equal : different);
    EXPECT_EQ(equal_here(one), first) << one["source"] << ": " << one["gold"] << " and " << one["pred"];
  }
  EXPECT_GE(equal, 60);
  EXPECT_GE(different, 30);
}

}  // namespace
}  // namespace retort
