#include <gtest/gtest.h>

#include "base/error.h"
#include "base/terminal.h"

namespace retort {
namespace {

TEST(Printable, EscapesWhatTurnsOrHidesTextOnATerminal) {
  EXPECT_EQ(printable("a\u202Eb"), "a\\u{202e}b");
  EXPECT_EQ(printable("\u2066x\u2069\u200F\u061C"), "\\u{2066}x\\u{2069}\\u{200f}\\u{61c}");
  EXPECT_EQ(printable("\u200B\u2028\uFEFF"), "\\u{200b}\\u{2028}\\u{feff}");
  EXPECT_EQ(printable("\U000E0041"), "\\u{e0041}");
  EXPECT_EQ(printable("\x1b[2J\u009B"), "\\x1b[2J\\xc2\\x9b");
  EXPECT_EQ(harmless("one\ttwo\n\u202Ethree"), "one\ttwo\n\\u{202e}three");
}

TEST(Printable, LeavesWhatScriptsAndEmojiNeed) {
  for (const char* text : {"\u05D0\u05D1", "\u0646\u0645\u06CC\u200C\u0634\u0648\u062F",
                           "\U0001F469\u200D\U0001F52C", "\u201Cq\u201D \u2026", "caf\u00E9"})
    EXPECT_EQ(printable(text), text);
}

}  // namespace
}  // namespace retort
