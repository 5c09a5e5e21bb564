#include "text/thoughts.h"

#include <gtest/gtest.h>

namespace retort {

TEST(WithoutThoughts, LeavesTheAnswer) {
  EXPECT_EQ(without_thoughts("<think>\nIs it \\boxed{7}?\n</think>\n\nred"), "red");
  EXPECT_EQ(without_thoughts("[THINK]hm[/THINK]red"), "red");
  EXPECT_EQ(without_thoughts("<seed:think>hm</seed:think>red"), "red");
  EXPECT_EQ(without_thoughts("one <think>a</think>two <think>b</think>three"), "one two three");
  EXPECT_EQ(without_thoughts("<think></think>red"), "red");
  EXPECT_EQ(without_thoughts(" red \n"), " red \n");  // nothing is touched where nothing was thought
}

TEST(WithoutThoughts, KnowsThoughtsThatThePromptBeganOrNobodyEnded) {
  EXPECT_EQ(without_thoughts("hm, blue?</think>\nred"), "red");
  EXPECT_EQ(without_thoughts("<think>hm, it may be red"), "");
  EXPECT_EQ(without_thoughts("red <think>or blue"), "red");
  EXPECT_EQ(without_thoughts("hm, it may be red", true), "");
  EXPECT_EQ(without_thoughts("hm</think>red", true), "red");
  EXPECT_EQ(without_thoughts("hm <think> again</think>red", true), "red");
  EXPECT_TRUE(ends_inside_thought("<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(ends_inside_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
}

TEST(WithoutThoughts, KnowsTheMarksOfATemplateBesideThoseOfTheFamilies) {
  const ThoughtMarks own{"<reason>", "</reason>"}, closed{"", "</reason>"};
  const std::string said = "<reason>is it \\boxed{7}?</reason>\nred";
  EXPECT_EQ(without_thoughts(said), said);
  EXPECT_EQ(without_thoughts(said, false, own), "red");
  EXPECT_EQ(without_thoughts("<reason>it may be", false, own), "");
  EXPECT_EQ(without_thoughts("it may be", true, own), "");
  EXPECT_EQ(without_thoughts("<think>a</think>red", false, own), "red");
  EXPECT_EQ(without_thoughts("it may be</reason>red", false, closed), "red");
  EXPECT_EQ(without_thoughts("red", false, closed), "red");
  EXPECT_TRUE(ends_inside_thought("assistant <reason>\n", own));
  EXPECT_FALSE(ends_inside_thought("assistant ", closed));
}

}  // namespace retort
