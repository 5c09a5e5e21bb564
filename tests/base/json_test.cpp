#include "base/json.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace retort {
namespace {

std::string refusal(std::string_view text) {
  try {
    parse_json(text, "made.json");
  } catch (const FormatError& error) { return error.what(); }
  return "accepted";
}

}  // namespace

TEST(Json, BuildsTheTreeInOneSweep) {
  const auto tree =
      parse_json(R"({"b": [1, -2, 2.5, [], {}], "a": {"x": null, "y": true}, "s": "\u00e9\ud83d\ude00\n"})",
                 "made.json");
  EXPECT_EQ(tree.dump(),
            "{\"a\":{\"x\":null,\"y\":true},\"b\":[1,-2,2.5,[],{}],\"s\":\"\xC3\xA9\xF0\x9F\x98\x80\\n\"}");
  EXPECT_EQ(parse_json("7", "made.json"), 7);
}

TEST(Json, KeepsWholeNumbersWhole) {
  const auto tree = parse_json(
      "[9007199254740993, 18446744073709551615, -1, 1.0, 1e3, 18446744073709551616, "
      "1000000000000000019884624838656, 0]",
      "made.json");
  EXPECT_EQ(whole_number(tree[0]), 9007199254740993u);  // 2^53 + 1, which no double holds
  EXPECT_EQ(whole_number(tree[1]), std::numeric_limits<uint64_t>::max());
  for (int i = 2; i <= 6; ++i) EXPECT_EQ(whole_number(tree[i]), std::nullopt) << i;
  EXPECT_EQ(tree[6].get<double>(), 1e30);  // transformers' "no limit"
  EXPECT_EQ(whole_number(tree[7]), 0u);
}

TEST(Json, RefusesWhatParsersDisagreeAbout) {
  EXPECT_EQ(refusal(R"({"a": 1, "b": 2, "a": 3})"), "made.json: a: this key stands twice in one JSON object");
  EXPECT_EQ(refusal(R"({"o": {"k": 1, "k": 2}})"), "made.json: k: this key stands twice in one JSON object");
  EXPECT_EQ(refusal(R"({"\u0061": 1, "a": 3})"), "made.json: a: this key stands twice in one JSON object");
  EXPECT_EQ(refusal(R"([{"a": 1}, {"a": 2}])"), "accepted");
  EXPECT_EQ(refusal(std::string_view("{}\0 anything", 12)), "made.json: byte 2: JSON holds no NUL bytes");
  EXPECT_EQ(refusal("[1] [2]"), "made.json: byte 5: is not valid JSON (or not UTF-8) here");
  EXPECT_EQ(refusal("[1e999]"), "made.json: byte 6: this number is out of range");
  for (const auto* text : {"", "[1,]", "{\"a\" 1}", "[01]", "[NaN]", "['a']", "// x\n1", "[\"\t\"]",
                           "[\"\xff\"]", "[\"\xed\xa0\x80\"]", "[\"\\ud800\"]", "[\"\\udc00x\"]",
                           "[\"\\ud800\\u0041\"]", "[\"\xc0\xaf\"]", "[", "{\"a\":"})
    EXPECT_NE(refusal(text), "accepted") << text;
}

TEST(Json, BoundsTheDepthBeforeItBuilds) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(refusal(nested(64)), "accepted");
  EXPECT_EQ(refusal(nested(65)), "made.json: is nested deeper than 64 levels");
  EXPECT_EQ(refusal(std::string(100000, '[')), "made.json: is nested deeper than 64 levels");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_EQ(refusal(objects), "made.json: is nested deeper than 64 levels");
  EXPECT_EQ(refusal("\"" + std::string(1000, '[') + "\""), "accepted");  // brackets inside a string are text
}

}  // namespace retort
