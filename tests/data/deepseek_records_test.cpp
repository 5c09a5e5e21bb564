// Records with tools, calls and thoughts as DeepSeek's own encoders write them
// (tools/golden/deepseek_chat.py).
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/files.h"
#include "data/json_records.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::vector<Message> messages_in(const std::string& line) {
  Record record;
  record.place = "golden";
  fill_from_json(parse_json(line, "golden"), line, "messages", "learn", record);
  return record.messages;
}

std::string written_out(std::string text, const Json& words) {
  for (const auto& [mark, meant] : words.items())
    for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark))
      text.replace(at, mark.size(), meant.get<std::string>());
  return text;
}

int compare_with(const std::string& file) {
  const auto text = read_text(file, size_t{16} << 20);
  Columns cases;
  Json words = Json::object();
  for (const auto& [name, part] : json_parts(text)) {
    if (name == "words") words = parse_json(part, file);
    if (name == "cases") cases = json_parts(part);
  }
  for (const auto& [none, part] : cases) {
    const auto wanted = parse_json(part, file);
    const auto where = wanted["name"].get<std::string>() + ", " + wanted["template"].get<std::string>();
    const auto& chat = *find_chat_template(wanted["template"].get<std::string>());
    std::string line;
    for (const auto& [name, value] : json_parts(part))
      if (name == "record") line = value;
    auto messages = messages_in(line);
    const auto whole = written_out(wanted["text"].get<std::string>(), words);
    EXPECT_EQ(render_text(chat, messages, false), whole) << where;
    auto prompt = wanted["prompts"].rbegin();
    while (!messages.empty()) {
      const bool answer = messages.back().role == "assistant";
      messages.pop_back();
      if (!answer) continue;
      const auto rest = written_out((*prompt)[1].get<std::string>(), words);
      EXPECT_EQ(render_text(chat, messages, true), whole.substr(0, (*prompt)[0]) + rest) << where;
      ++prompt;
    }
    EXPECT_TRUE(prompt == wanted["prompts"].rend()) << where;
  }
  return static_cast<int>(cases.size());
}

TEST(DeepseekRecords, AreWrittenAsTheirOwnEncodersDo) {
  EXPECT_EQ(compare_with(std::string(source_dir()) + "/tests/golden/chat/deepseek.json"), 68);
  const char* more = std::getenv("RETORT_LONG_CASES");
  EXPECT_EQ(more ? compare_with(more) : 2, 2);
}

// Python would read these numbers and write others.
TEST(DeepseekRecords, CallsKeepTheSpellingOfNumbersAndTheOrderOfKeys) {
  const std::string call = R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":)"
                           R"({"z":1.50,"a":{"y":12345678901234567890123,"b":1e5}}}}]})";
  for (const auto* name : {"deepseek-v3.2", "deepseek-v4"}) {
    const auto text =
        render_text(*find_chat_template(name),
                    messages_in(R"({"messages":[{"role":"user","content":"a"},)" + call + "]}"), false);
    EXPECT_NE(
        text.find("<｜DSML｜parameter name=\"z\" string=\"false\">1.50</｜DSML｜parameter>\n"
                  "<｜DSML｜parameter name=\"a\" string=\"false\">{\"y\": 12345678901234567890123, \"b\": "
                  "1e5}</｜DSML｜parameter>\n"),
        std::string::npos)
        << text;
  }
}

}  // namespace
}  // namespace retort
