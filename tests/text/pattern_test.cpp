#include "text/pattern.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {

TEST(Pattern, IsSearchedForAnywhereInUtf8Text) {
  EXPECT_TRUE(Pattern("b.d", "k").found_in("abüd", "f:1"));  // one character, two bytes
  EXPECT_FALSE(Pattern("^b", "k").found_in("a\nb", "f:1"));
  EXPECT_TRUE(Pattern("(?m)^b$", "k").found_in("a\nb", "f:1"));
  EXPECT_TRUE(Pattern("(?i)as an ai", "k").found_in("Well, As an AI model", "f:1"));
  EXPECT_FALSE(Pattern("a$", "k").found_in("a\n", "f:1"));
  EXPECT_TRUE(Pattern("", "k").found_in("", "f:1"));
}

TEST(Pattern, ErrorsNameTheKeyAndWhatIsWrong) {
  const auto error_of = [](const auto& act) -> std::string {
    try {
      act();
    } catch (const RecipeError& error) { return error.what(); }
    return "accepted";
  };
  EXPECT_EQ(error_of([] { Pattern("a(b", "data.sources[0].reject.if_match"); }),
            "data.sources[0].reject.if_match: expected a regular expression, found 'a(b': missing closing "
            "parenthesis at character 3");
  EXPECT_NE(error_of([] {
              Pattern("(a+)+$", "key").found_in(std::string(64, 'a') + "b", "x.jsonl:7");
            }).find("key: this regular expression takes too many steps on x.jsonl:7"),
            std::string::npos);
}

}  // namespace retort
