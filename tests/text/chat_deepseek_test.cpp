// What of DeepSeek V3.2's and V4's texts is learned, and what they refuse. (That the texts are those of their
// own encoders: tests/data/deepseek_records_test.cpp.)
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/byte_tokenizer.h"
#include "text/chat.h"

namespace retort {
namespace {

// What is learned of message 1 is shown as "[1 ...]"; control tokens stand in braces.
std::string shown(std::string_view name, const std::vector<Message>& messages, bool header = false) {
  std::string text;
  int32_t answer = -1;
  for (const auto& piece : find_chat_template(name)->render(messages, header)) {
    if (piece.answer != answer)
      text += (answer < 0 ? "" : "]") +
              (piece.answer < 0 ? std::string() : "[" + std::to_string(piece.answer) + " ");
    answer = piece.answer;
    text += piece.control ? "{" + piece.text + "}" : piece.text;
  }
  return text + (answer < 0 ? "" : "]");
}

Message thinks(const std::string& thought, const std::string& words) {
  Message message{"assistant", "<think>\n" + thought + "\n</think>\n\n" + words};
  message.thought = thought, message.spoken = words;
  return message;
}

Message calls(const std::string& words, int count = 1) {
  Message message{"assistant", words};
  for (int c = 0; c < count; ++c)
    message.fields += std::string(c > 0 ? "," : "") + R"({"id":"c)" + std::to_string(c) +
                      R"(","function":{"name":"f","arguments":"{\"x\": \"<think>\"}"}})";
  message.fields = "\"tool_calls\":[" + message.fields + "]";
  message.not_carried = "tool_calls";
  return message;
}

Message result(const std::string& words) {
  Message message{"tool", words};
  message.not_carried = "role 'tool'";
  return message;
}

constexpr std::string_view kBegin = "{<｜begin▁of▁sentence｜>}", kEnd = "{<｜end▁of▁sentence｜>}";

std::string filled(std::string text) {
  for (const auto& [mark, meant] : {std::pair<std::string_view, std::string_view>{"BOS", kBegin},
                                    {"EOS", kEnd},
                                    {"USER", "{<｜User｜>}"},
                                    {"BOT", "{<｜Assistant｜>}"},
                                    {"DSML", "{｜DSML｜}"}})
    for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + meant.size()))
      text.replace(at, mark.size(), meant);
  return text;
}

std::string problem_of(std::string_view name, const std::vector<Message>& messages, bool header = false) {
  try {
    shown(name, messages, header);
    return "";
  } catch (const RecipeError& error) { return error.what(); }
}

TEST(Deepseek, TheHeadersMarkIsGivenAndTheThoughtIsLearned) {
  for (const std::string version : {"deepseek-v3.2", "deepseek-v4"}) {
    EXPECT_EQ(shown(version, {{"user", "a</think>"}, {"assistant", "b"}}),
              filled("BOSUSERa</think>BOT{</think>}[1 bEOS]"));
    const std::vector<Message> talk = {{"user", "a"}, thinks("x\n", "b"), {"user", "c"}, thinks("y", "d")};
    EXPECT_EQ(shown(version + "-thinking", talk),
              filled("BOSUSERaBOT{</think>}[1 bEOS]USERcBOT{<think>}[3 y{</think>}dEOS]"));
    EXPECT_EQ(shown(version + "-thinking", {talk[0], talk[1]}),
              filled("BOSUSERaBOT{<think>}[1 x\n{</think>}bEOS]"));
    EXPECT_EQ(shown(version + "-thinking", {{"user", "a"}, {"assistant", "<think>\nx\n</think>\n\nb"}}),
              filled("BOSUSERaBOT{<think>}[1 x{</think>}bEOS]"));
    EXPECT_EQ(shown(version, {{"user", "a"}}, true), filled("BOSUSERaBOT{</think>}"));
    auto switched = talk;
    switched[0].beside = "\"enable_thinking\":true";
    EXPECT_EQ(shown(version, switched), shown(version + "-thinking", talk));
  }
}

TEST(Deepseek, CallsAreLearnedAndResultsAreNot) {
  EXPECT_EQ(
      shown("deepseek-v3.2", {{"user", "a"}, calls("b", 2), result("r"), result("s"), {"assistant", "d"}}),
      filled("BOSUSERaBOT{</think>}[1 b\n\n<DSMLfunction_calls>\n<DSMLinvoke name=\"f\">\n<DSMLparameter "
             "name=\"x\" string=\"true\"><think></DSMLparameter>\n</DSMLinvoke>\n<DSMLinvoke name=\"f\">\n"
             "<DSMLparameter name=\"x\" string=\"true\"><think></DSMLparameter>\n</DSMLinvoke>\n"
             "</DSMLfunction_calls>EOS]\n\n<function_results>\n<result>r</result>\n<result>s</result>\n"
             "</function_results>\n\n{</think>}[4 dEOS]"));
  EXPECT_EQ(
      shown("deepseek-v4", {{"user", "a"}, calls(""), result("r"), {"user", "c"}, {"assistant", "d"}}),
      filled("BOSUSERaBOT{</think>}[1 \n\n<DSMLtool_calls>\n<DSMLinvoke name=\"f\">\n<DSMLparameter "
             "name=\"x\" string=\"true\"><think></DSMLparameter>\n</DSMLinvoke>\n</DSMLtool_calls>EOS]USER"
             "<tool_result>r</tool_result>\n\ncBOT{</think>}[4 dEOS]"));
}

TEST(Deepseek, WhatIsSaidNowhereIsRefusedByName) {
  const Message user{"user", "a"}, answer{"assistant", "b"};
  auto named = user, with_documents = user, with_tools = calls("b"), broken = calls("b");
  named.fields = "\"name\":\"x\"", named.not_carried = "name";
  with_documents.beside = "\"documents\":[\"x\"]";
  with_tools.fields += ",\"tools\":[]";
  broken.fields = R"("tool_calls":[{"function":{"name":"f","arguments":"{"}}])";
  for (const std::string version : {"deepseek-v3.2", "deepseek-v4"}) {
    const std::pair<std::string, std::vector<Message>> cases[] = {
        {"message 1: name", {named, answer}},
        {"documents", {with_documents, answer}},
        {"message 2: tools", {user, with_tools}},
        {"message 2: tool_calls: the arguments of the call of f", {user, broken}},
        {"message 1: role 'function'", {{"function", "x"}}},
        {"message 2: this answer holds a thought", {user, thinks("x", "b")}},
        {"message 1: template", {answer}},
        {"message 3: template", {user, answer, answer}},
    };
    for (const auto& [what, messages] : cases)
      EXPECT_TRUE(problem_of(version, messages).starts_with(what)) << problem_of(version, messages);
    EXPECT_NE(problem_of(version, {user, answer}, true), "");
    EXPECT_NE(problem_of(version + "-thinking", {{"developer", "x"}, user, thinks("x", "b")}), "");
  }
  for (const auto& messages : {std::vector<Message>{user, calls("", 2), result("r"), answer},
                               {user, calls(""), result("r"), result("s"), answer},
                               {user, answer, result("r"), answer}})
    EXPECT_NE(problem_of("deepseek-v3.2", messages).find("one result of each call"), std::string::npos);
  EXPECT_TRUE(problem_of("deepseek-v3.2-thinking", {user, answer}).starts_with("message 2: template"));
  EXPECT_TRUE(
      problem_of("deepseek-v3.2", {{"latest_reminder", "x"}, user, answer}).starts_with("message 1: role"));
}

TEST(Deepseek, AMarkThatTheTokenizerLacksIsText) {
  const std::vector<std::string> controls = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
                                             "<｜Assistant｜>", "</think>"};
  auto more = controls;
  more.push_back("｜DSML｜");
  const std::vector<Message> talk = {{"user", "｜DSML｜"}, calls("")};
  const auto count = [&](const std::vector<std::string>& known) {
    int special = 0;
    for (const auto id :
         render_tokens(*find_chat_template("deepseek-v3.2"), ByteTokenizer(known), talk, false).tokens)
      special += id >= 256;
    return special;
  };
  EXPECT_EQ(count(controls), 5);
  EXPECT_EQ(count(more), 5 + 6);  // two each of block, call and parameter; the user's is text
}

}  // namespace
}  // namespace retort
