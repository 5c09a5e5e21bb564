#include "generate/text_stream.h"

#include <gtest/gtest.h>

namespace retort {

TEST(TextStream, FindsAStopStringAcrossTokenBorders) {
  TextStream stream({"</s>", "\n\nQ:"});
  EXPECT_FALSE(stream.push("yes <"));
  EXPECT_EQ(stream.take(), "yes ");
  EXPECT_FALSE(stream.push("/"));
  EXPECT_EQ(stream.take(), "");
  EXPECT_TRUE(stream.push("s>more"));
  EXPECT_EQ(stream.text(), "yes ");
  EXPECT_EQ(stream.take(true), "");
}

TEST(TextStream, ShowsWhatTurnsOutNotToBeAStop) {
  TextStream stream({"abcd"});
  EXPECT_FALSE(stream.push("xabc"));
  EXPECT_EQ(stream.take(), "x");
  EXPECT_FALSE(stream.push("x"));
  EXPECT_EQ(stream.take(), "abcx");
  EXPECT_EQ(stream.text(), "xabcx");
}

TEST(TextStream, EndsBeforeTheEarliestOfSeveralStops) {
  TextStream stream({"cd", "b"});
  EXPECT_TRUE(stream.push("abcd"));
  EXPECT_EQ(stream.text(), "a");
}

TEST(TextStream, HoldsBackIncompleteCharacters) {
  TextStream stream({});
  EXPECT_FALSE(stream.push("\xF0\x9F"));
  EXPECT_EQ(stream.take(), "");
  EXPECT_FALSE(stream.push("\x98\x80!"));
  EXPECT_EQ(stream.take(), "\xF0\x9F\x98\x80!");
  stream.push("\xE2\x82");
  EXPECT_EQ(stream.take(), "");
  EXPECT_EQ(stream.take(true), "\xE2\x82");
}

TEST(IncompleteTail, CountsTheBytesOfAnUnfinishedSequence) {
  EXPECT_EQ(incomplete_tail(""), 0u);
  EXPECT_EQ(incomplete_tail("abc"), 0u);
  EXPECT_EQ(incomplete_tail("\xC3\xA9"), 0u);
  EXPECT_EQ(incomplete_tail("a\xC3"), 1u);
  EXPECT_EQ(incomplete_tail("\xE2\x82"), 2u);
  EXPECT_EQ(incomplete_tail("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incomplete_tail("\x80\x80"), 0u);  // never was a sequence
  EXPECT_EQ(incomplete_tail("\xFF"), 0u);
}

}  // namespace retort
