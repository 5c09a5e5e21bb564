// What messages say beside who speaks and what is said.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "data/dataset.h"
#include "data/json_records.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

std::vector<Record> read(const std::string& lines, const std::string& reasoning = "refuse") {
  TemporaryFolder folder;
  SourceSpec spec;
  spec.path = folder.write("x.jsonl", lines);
  spec.reasoning = reasoning;
  return read_records(spec, 0);
}

std::string problem(const std::string& lines, const std::string& reasoning = "refuse") {
  try {
    read(lines, reasoning);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::bad_input);
    return error.what();
  }
  return "";
}

std::string talk(const std::string& user, const std::string& assistant) {
  return R"({"messages":[{"role":"user","content":"q")" + user + R"(},{"role":"assistant","content":"a")" +
         assistant + "}]}";
}

// What is learned of each record, by the tokens' weights.
std::string learned(const Record& record, const std::string& loss = "completion") {
  DataSpec spec;
  spec.sources.emplace_back();
  spec.loss = loss;
  const auto tokenizer = chat_tokenizer();
  const auto sample = make_sample(spec, record, tokenizer, *find_chat_template("chatml"));
  std::string text;
  for (size_t i = 0; i < sample.tokens.size(); ++i)
    if (sample.weights[i] > 0) text += tokenizer.token_text(sample.tokens[i]);
  return text;
}

TEST(Messages, FieldsThatMeanSomethingAreRefusedByNameWithFileAndLine) {
  const std::pair<std::string, const char*> cases[] = {
      {talk("", R"(,"refusal":"no")"), "message 2: refusal"},
      {talk("", R"(,"train_detail":[{"begin_offset":0}])"), "message 2: train_detail"},
      {talk("", R"(,"weight":0.5)"), "message 2: weight: expected 0, 1, true or false"},
      {talk("", R"(,"train":"yes")"), "message 2: train: expected 0, 1"},
      {talk(R"(,"train":true)", ""), "message 1: train: only answers of the assistant"},
      {talk("", R"(,"reasoning_content":"hm")"),
       "message 2: reasoning_content: say with data.sources.reasoning"},
      {talk("", R"(,"thinking":"hm")"), "message 2: thinking: say with"},
      {R"({"messages":[{"role":"narrator","content":"q"}]})", "message 1: role 'narrator': unknown role"},
      {R"({"conversations":[{"from":"function_call","value":"q"}]})",
       "message 1: a call of a tool: expected"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]})",
       "message 1: content[0]: part of type 'image_url': only texts are learned"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_audio"}]}]})",
       "message 1: content[1]: part of type 'input_audio'"},
      {R"({"messages":[{"role":"user","content":[{"text":"a"}]}]})", "content[0]: expected a part"},
      {R"({"messages":[{"role":"user","content":null}]})", "content: expected a string, found null"},
      {R"({"messages":[{"role":"user","content":"q"}],"tools":{"type":"function"}})",
       "tools: expected a list"},
      {R"({"conversations":[{"from":"human","value":"q"}],"tools":"[{\"name\":"})",
       "tools: byte 10: is not valid"},
      {R"({"prompt":"q","completion":"a","label":false})",
       "label: is false: such an answer is a bad example"},
      {R"({"prompt":"q","completion":"a","rejected":"b"})", "rejected: preference pairs"},
      {R"({"messages":[{"role":"user","content":"q"}],"images":["a.png"]})", "images: only texts"},
      {R"({"instruction":"i","output":"o","history":[["q"]]})", "history: expected a list of earlier turns"},
      {R"({"instruction":"i","output":"o","history":"q"})", "history: expected a list of earlier turns"},
  };
  for (const auto& [line, expected] : cases) {
    const auto found = problem("\n" + line + "\n");
    EXPECT_NE(found.find("x.jsonl:2: "), std::string::npos) << line << ": " << found;
    EXPECT_NE(found.find(expected), std::string::npos) << line << ": " << found;
  }
}

std::string refusal_of(const std::string& line) {
  try {
    learned(read(line)[0]);
  } catch (const Error& error) { return error.what(); }
  return "";
}

// What is said of a whole record: refused where it says that the record is not to be learned, told where it
// may be a column like others.
TEST(Messages, ARecordThatIsNotToBeLearnedIsRefusedAndOtherValuesAreTold) {
  const auto with = [](const std::string& more) {
    return R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],)" + more + "}";
  };
  const std::string pair = R"({"prompt":"q","completion":"a",)";
  const std::pair<std::string, const char*> refused[] = {
      {with(R"("train":false)"), "train: is false: such a record is not to be learned"},
      {with(R"("training":"False")"), "training: is false"},
      {with(R"("weight":0)"), "weight: is 0"},
      {with(R"("weight":0.0)"), "weight: is 0"},
      {with(R"("weight":false)"), "weight: is false"},
      {pair + R"("train":false})", "train: is false"},
      {R"({"instruction":"i","output":"o","train":false})", "train: is false"},
  };
  for (const auto& [line, expected] : refused) {
    const auto found = problem("\n" + line);
    EXPECT_NE(found.find("x.jsonl:2: "), std::string::npos) << line << ": " << found;
    EXPECT_NE(found.find(expected), std::string::npos) << line << ": " << found;
  }
  const auto told = [](const std::string& line) {
    testing::internal::CaptureStderr();
    EXPECT_FALSE(read(line + "\n" + line).empty()) << line;
    return testing::internal::GetCapturedStderr();
  };
  for (const auto& line :
       {with(R"("train":true)"), with(R"("weight":1.0)"), with(R"("weight":null,"train":"")"),
        with(R"("label":true)"), pair + R"("label":"fracture"})",
        std::string(R"({"text":"t","weight":0,"train":false})")})
    EXPECT_EQ(told(line), "") << line;
  const std::pair<std::string, const char*> columns[] = {
      {with(R"("weight":72.5)"), "weight: is neither 0 nor 1"},
      {with(R"("train":"ICE 571")"), "train: is neither true nor false"},
      {pair + R"("weight":0})", "weight: stands beside no list of messages"},
      {pair + R"("label":0})", "label: is 0, and only false says"},
  };
  for (const auto& [line, expected] : columns) {
    const auto found = told(line);
    EXPECT_NE(found.find("x.jsonl:1: " + std::string(expected)), std::string::npos) << line << ": " << found;
    EXPECT_EQ(std::count(found.begin(), found.end(), '\n'), 1) << found;  // once for the file
  }
}

// The built-in templates know no tools: each is refused by its name, with the record's place.
TEST(Messages, WhatOnlyTemplatesInJinjaWriteIsRefusedByTheBuiltInOnes) {
  const std::pair<std::string, const char*> cases[] = {
      {talk("", R"(,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}])"),
       "message 2: tool_calls: the built-in"},
      {talk("", R"(,"function_call":{"name":"f"})"), "message 2: function_call: "},
      {talk(R"(,"tool_call_id":"7")", ""), "message 1: tool_call_id: "},
      {talk(R"(,"name":"Ann")", ""), "message 1: name: "},
      {R"({"messages":[{"role":"tool","content":"q"},{"role":"assistant","content":"a"}]})",
       "message 1: role 'tool': "},
      {R"({"messages":[{"role":"developer","content":"q"},{"role":"assistant","content":"a"}]})",
       "message 1: role 'developer': "},
      {R"({"conversations":[{"from":"function_call","value":"{}"},{"from":"gpt","value":"a"}]})",
       "message 1: tool_calls: "},
      {R"({"conversations":[{"from":"observation","value":"q"},{"from":"gpt","value":"a"}]})",
       "message 1: role 'tool': "},
      {R"({"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],)"
       R"("tools":"[{\"name\":\"f\"}]"})",
       "tools: the built-in"},
      {R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],)"
       R"("chat_template_kwargs":{"x":1}})",
       "x: the built-in"},
  };
  for (const auto& [line, expected] : cases) {
    const auto found = refusal_of(line);
    EXPECT_NE(found.find("x.jsonl:1: "), std::string::npos) << line << ": " << found;
    EXPECT_NE(found.find(expected), std::string::npos) << line << ": " << found;
  }
}

TEST(Messages, CallsAndToolsKeepTheirOrderAndTheirNumbers) {
  const auto record = read(
      R"({"tools": [{"z": 1.50, "a": {"type": "f"}}], )"
      R"("messages": [{"role": "user", "content": "q", "name": null},)"
      R"({"role": "assistant", "content": null, )"
      R"("tool_calls": [{"z": 12345678901234567890123, "a": "\u00e9"}], "id": "7"},)"
      R"({"tool_call_id": "7", "role": "tool", "content": "r"}, {"role": "assistant", "content": "a"}]})")[0];
  EXPECT_EQ(record.messages[0].beside, R"("tools":[{"z":1.50,"a":{"type":"f"}}])");
  EXPECT_EQ(record.messages[0].fields, "");
  EXPECT_EQ(record.messages[1].fields,
            "\"tool_calls\":[{\"z\":12345678901234567890123,\"a\":\"\u00e9\"}],\"id\":\"7\"");
  EXPECT_EQ(record.messages[1].content, "");
  EXPECT_EQ(record.messages[2].fields, R"("tool_call_id":"7")");
  EXPECT_EQ(record.messages[2].role, "tool");
}

TEST(Messages, ShareGptsCallsAreCalls) {
  const auto record = read(
      R"({"conversations":[{"from":"human","value":"q"},{"from":"function_call",)"
      R"("value":"{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}"},)"
      R"({"from":"observation","value":"r"},{"from":"gpt","value":"a"}],"tools":"[{\"name\": \"f\"}]"})")[0];
  EXPECT_EQ(record.messages[1].fields,
            R"("tool_calls":[{"type":"function","function":{"name": "f", "arguments": {"b": 1, "a": 2}}}])");
  EXPECT_EQ(record.messages[1].role, "assistant");
  EXPECT_EQ(record.messages[2].role, "tool");
  EXPECT_EQ(record.messages[0].beside, R"("tools":[{"name": "f"}])");
}

TEST(Messages, FieldsThatSayNothingAreNoObstacle) {
  const auto records = read(
      R"({"messages":[{"role":"user","content":"q","name":null,"tool_calls":[]},)"
      R"({"role":"assistant","content":"a","refusal":null,"reasoning_content":"","function_call":null}],)"
      R"("tools":[],"label":true,"images":null})");
  EXPECT_EQ(records.size(), 1u);
  const std::string shared =
      R"({"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"tools":"[]"})";
  EXPECT_EQ(read(shared).size(), 1u);
}

TEST(Messages, PartsThatAreTextsAreOneText) {
  const auto records = read(
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},)"
      R"({"role":"assistant","content":[{"type":"text","text":"c"}]}]})");
  EXPECT_EQ(records[0].messages[0].content, "ab");
  EXPECT_EQ(records[0].messages[1].content, "c");
}

// It was dropped without a word beside "messages" and beside prompt and completion.
TEST(Messages, ASystemTextBesideThemGoesFirst) {
  const std::string turns = R"([{"role":"user","content":"q"},{"role":"assistant","content":"a"}])";
  const std::string own = R"([{"role":"system","content":"Be brief."},{"role":"user","content":"q"},)"
                          R"({"role":"assistant","content":"a"}])";
  for (const auto& line : {R"({"system":"Be brief.","messages":)" + turns + "}",
                           R"({"system_prompt":"Be brief.","messages":)" + turns + "}",
                           R"({"system":"Be brief.","conversations":)" + turns + "}",
                           R"({"system":"Be brief.\n","messages":)" + own + "}",
                           R"({"system":"","system_prompt":null,"messages":)" + own + "}",
                           std::string(R"({"system":"Be brief.","prompt":"q","completion":"a"})"),
                           std::string(R"({"system":"Be brief.","instruction":"q","output":"a"})")}) {
    const auto messages = read(line)[0].messages;
    ASSERT_EQ(messages.size(), 3u) << line;
    EXPECT_EQ(messages[0].role, "system") << line;
    EXPECT_EQ(messages[0].content, "Be brief.") << line;
    EXPECT_EQ(messages[1].content, "q") << line;
  }
  for (const auto& line : {R"({"system":"Be long.","messages":)" + own + "}",
                           R"({"system":"Be long.","conversations":)" + own + "}"})
    EXPECT_NE(problem(line).find("system: the record brings another system text too"), std::string::npos)
        << problem(line);
  const auto earlier = problem(R"({"history":[["x","y"]],"messages":)" + turns + "}");
  EXPECT_NE(earlier.find("history: earlier turns stand beside"), std::string::npos) << earlier;
  EXPECT_EQ(read(R"({"history":"diabetes","messages":)" + turns + "}").size(), 1u);
}

TEST(Messages, RoleAndContentMayStandUnderEitherListsName) {
  const auto records =
      read(R"({"conversations":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})"
           "\n");
  EXPECT_EQ(records[0].messages[1].content, "a");
  EXPECT_EQ(read(R"({"messages":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]})")[0]
                .prompt()[0]
                .content,
            "q");
}

TEST(Messages, WeightTrainAndLossChooseTheAnswers) {
  for (const char* no : {R"(,"weight":0)", R"(,"weight":0.0)", R"(,"train":false)", R"(,"training":false)",
                         R"(,"loss":false)", R"(,"loss":0)"}) {
    const auto records = read(
        R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"red")" +
        std::string(no) +
        R"(},{"role":"user","content":"r","weight":0},{"role":"assistant","content":"blue","weight":1}]})");
    EXPECT_EQ(learned(records[0]), "blue<|im_end|>") << no;
    EXPECT_EQ(learned(records[0], "last_answer"), "blue<|im_end|>") << no;
    EXPECT_EQ(learned(records[0], "all").find("red"), std::string::npos) << no;
  }
}

TEST(Messages, ThoughtsInAFieldAreLearnedMaskedOrStripped) {
  const auto line = talk("", R"(,"reasoning_content":"hm, 4\n")");
  EXPECT_EQ(learned(read(line, "learn")[0]), "<think>\nhm, 4\n</think>\n\na<|im_end|>");
  EXPECT_EQ(learned(read(line, "mask")[0]), "\n\na<|im_end|>");
  EXPECT_EQ(learned(read(line, "strip")[0]), "a<|im_end|>");
  const std::string inside = R"({"prompt":[{"role":"user","content":"q"}],"completion":)"
                             R"([{"role":"assistant","content":"<think>hm</think>a"}]})";
  EXPECT_EQ(learned(read(inside)[0]), "<think>hm</think>a<|im_end|>");
  EXPECT_EQ(learned(read(inside, "mask")[0]), "a<|im_end|>");
  EXPECT_EQ(learned(read(inside, "strip")[0]), "a<|im_end|>");
}

TEST(Messages, AlpacasHistoryIsTheEarlierTurns) {
  const auto records = read(R"({"instruction":"i","input":"","output":"o","system":"s",)"
                            R"("history":[["q1","a1"],["q2","a2"]]})"
                            "\n"
                            R"({"instruction":"i","output":"o","history":[]})");
  std::string roles;
  for (const auto& message : records[0].messages) roles += message.role[0] + message.content + "|";
  EXPECT_EQ(roles, "ss|uq1|aa1|uq2|aa2|ui|ao|");
  EXPECT_EQ(records[1].messages.size(), 2u);
}

TEST(JsonColumns, KeepTheOrderOfKeysAndTheSpellingOfNumbers) {
  const auto columns = json_columns(
      R"({"call": {"name": "f", "arguments": {"zeta": 1.50, "alpha": )"
      R"([12345678901234567890123, -0, 1e5, 0.10]}},)"
      R"( "n": 1.50, "id": 12345678901234567890123, "s": "\u00e9\"", "t": true, "e": null, "l": [], "o": {},)"
      R"( "m": [[1,[]],{"b":{},"a":"x\ny"}], "i": -7})");
  const Columns expected = {
      {"call", R"({"name":"f","arguments":{"zeta":1.50,"alpha":[12345678901234567890123,-0,1e5,0.10]}})"},
      {"n", "1.50"},
      {"id", "12345678901234567890123"},
      {"s", "\u00e9\""},
      {"t", "true"},
      {"e", ""},
      {"l", "[]"},
      {"o", "{}"},
      {"m", R"([[1,[]],{"b":{},"a":"x\ny"}])"},
      {"i", "-7"}};
  EXPECT_EQ(columns, expected);
}

TEST(JsonColumns, ReachPromptsAsTheyAreWritten) {
  TemporaryFolder folder;
  SourceSpec spec;
  spec.path = folder.write("x.jsonl", R"({"id":12345678901234567890123,"call":{"b":1.50,"a":1}})");
  spec.prompt = "{id}";
  spec.completion = "{call}";
  const auto records = read_records(spec, 0);
  EXPECT_EQ(records[0].messages[0].content, "12345678901234567890123");
  EXPECT_EQ(records[0].messages[1].content, R"({"b":1.50,"a":1})");
}

}  // namespace
}  // namespace retort
