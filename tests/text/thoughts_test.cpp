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

}  // namespace retort
