#include "text/spelled_json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

std::string shown(std::string_view json) {
  std::string text;
  for (const auto& member : spelled_members(json))
    text += member.name + (member.is_text ? "=" : ":") + member.value + "\n";
  return text;
}

// The right sides are those of Python's json.dumps(value, ensure_ascii=False), but for the numbers.
TEST(SpelledJson, MembersKeepTheirOrderAndTheirNumbers) {
  EXPECT_EQ(shown(R"({"z":1.50,"a":12345678901234567890123,"e":1e5,"n":-7,"t":"caf\u00e9\n","b":true})"),
            "z:1.50\na:12345678901234567890123\ne:1e5\nn:-7\nt=caf\u00e9\n\nb:true\n");
  EXPECT_EQ(shown(R"({"o" : {"b":[1,{"c":[]},"x\"\u0001\/"],"a":{}} , "u":null})"),
            "o:{\"b\": [1, {\"c\": []}, \"x\\\"\\u0001/\"], \"a\": {}}\nu:null\n");
}

TEST(SpelledJson, ElementsOfAListHaveNoName) {
  EXPECT_EQ(shown(R"([[], [[1],[2]], {"a":1,"b":2}, "s"])"), ":[]\n:[[1], [2]]\n:{\"a\": 1, \"b\": 2}\n=s\n");
  EXPECT_EQ(shown("[]"), "");
}

TEST(SpelledJson, AnythingElseIsRefused) {
  for (const char* json : {"", "1", "\"a\"", "{\"a\":", "[1] 2"})
    EXPECT_THROW(spelled_members(json), RecipeError) << json;
}

}  // namespace
}  // namespace retort
