#include "generate/prompts.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

std::string refusal(std::string_view content, bool json) {
  try {
    prompts_of(content, "p", json);
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

TEST(Prompts, LinesAndObjects) {
  const auto lines = prompts_of("\xEF\xBB\xBFone\r\n\n  \ntwo words", "p", false);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].messages[0].content, "one");
  EXPECT_EQ(lines[1].place, "p:4");
  EXPECT_EQ(lines[1].messages[0].content, "two words");

  const auto objects = prompts_of(
      "{\"prompt\": \"a\\nb\", \"completion\": \"x\"}\n{\"messages\": [{\"role\": \"system\", \"content\": "
      "\"s\"}, {\"role\": \"user\", \"content\": \"u\"}]}\n"
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"v\"}]}",
      "p", true);
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[0].messages[0].content, "a\nb");
  EXPECT_EQ(objects[1].messages[0].role, "system");
  EXPECT_EQ(objects[1].messages[1].content, "u");
  EXPECT_EQ(objects[2].messages[0].content, "v");
}

TEST(Prompts, WhatIsRefusedNamesThePlace) {
  EXPECT_EQ(refusal("\n \n", false), "p: holds no prompt; expected one a line");
  EXPECT_EQ(refusal("ok\n\xFF", false),
            "p:2: invalid UTF-8 at byte 0; it looks like Windows-1252: convert the file to UTF-8, or, of a "
            "data source, set encoding: cp1252");
  EXPECT_EQ(refusal("{\"prompt\": 3}", true),
            "p:1: expected a \"prompt\" (a text or messages) or \"messages\"");
  EXPECT_EQ(refusal("{\"messages\": []}", true), "p:1: expected a list of messages that is not empty");
  EXPECT_EQ(refusal("{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}", true),
            "p:1: the conversation ends with a message of role assistant; expected the user's, which is to "
            "be answered");
  EXPECT_EQ(refusal("[1]", true), "p:1: expected a JSON object on each line, found array");
}

}  // namespace
}  // namespace retort
