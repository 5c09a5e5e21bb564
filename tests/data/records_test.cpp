#include "data/record.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "data/temporary_folder.h"

namespace retort {
namespace {

std::string shown(const Record& record) {
  std::string out;
  for (const auto& message : record.messages) out += message.role + ":" + message.content + "|";
  return out + record.text;
}

SourceSpec source(const std::string& path) {
  SourceSpec spec;
  spec.path = path;
  return spec;
}

TEST(Records, KindsOfJsonAreRecognisedByTheirKeys) {
  TemporaryFolder folder;
  const std::pair<const char*, const char*> cases[] = {
      {R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})",
       "user:q|assistant:a|"},
      {R"({"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"system":"s"})",
       "system:s|user:q|assistant:a|"},
      {R"({"instruction":"do","input":"this","output":"done"})", "user:do\n\nthis|assistant:done|"},
      {R"({"instruction":"do","input":"","output":"done"})", "user:do|assistant:done|"},
      {R"({"prompt":"q","completion":"a"})", "user:q|assistant:a|"},
      {R"({"prompt":[{"role":"system","content":"s"},{"role":"user","content":"q"}],)"
       R"("completion":[{"role":"assistant","content":"a"}]})",
       "system:s|user:q|assistant:a|"},
      {R"({"text":"words"})", "words"},
  };
  for (const auto& [line, expected] : cases) {
    const auto records = read_records(source(folder.write("x.jsonl", line)), 0);
    ASSERT_EQ(records.size(), 1u) << line;
    EXPECT_EQ(shown(records[0]), expected);
  }
}

TEST(Records, BrokenRecordsNameFileLineAndKey) {
  TemporaryFolder folder;
  const std::pair<const char*, const char*> cases[] = {
      {R"({"messages":[{"role":"user","content":"q"}]})", "ends with a user message"},
      {R"({"messages":[{"role":"tool","content":"q"}]})", "ends with a tool message"},
      {R"({"messages":[{"role":"user"}]})", "content: this key is missing"},
      {R"({"messages":[{"role":"user","content":7}]})",
       "content: expected a string, found number; write it in quotes, or leave such records out with "
       "on_bad_record: skip"},
      {R"({"prompt":"q" "completion":"a"})",
       "is not valid JSON (or not UTF-8) here; a comma, quote or brace is missing before this place; mend "
       "the line, or set on_bad_record: skip"},
      {R"({"messages":[]})", "not empty"},
      {R"({"messages":"q"})", "expected a list of messages"},
      {R"({"prompt":"q","completion":" "})", "assistant: this message is empty"},
      {R"({"question":"q"})", "no kind of record is recognised by its keys (question)"},
  };
  for (const auto& [line, expected] : cases) {
    const auto path = folder.write("x.jsonl", std::string("\n") + line + "\n");
    try {
      read_records(source(path), 0);
      FAIL() << line;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(path + ":2"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
}

// The first record is also read to settle the kind, so only a later one shows what make() says.
TEST(Records, LaterBrokenRecordsNameFileAndLineToo) {
  TemporaryFolder folder;
  const std::string first = R"({"text":"a"})"
                            "\n";
  for (const std::string line : {R"({"text":)", R"({"text":"\ud800"})", R"([1])", R"({"text":7})"}) {
    const auto path = folder.write("x.jsonl", first + line + "\n");
    try {
      read_records(source(path), 0);
      FAIL() << line;
    } catch (const Error& error) {
      EXPECT_TRUE(std::string_view(error.what()).starts_with(path + ":2: ")) << error.what();
    }
  }
}

TEST(Records, AColumnThatIsMissingNamesFileAndLine) {
  TemporaryFolder folder;
  const auto refused = [&](SourceSpec spec, const std::string& place, const std::string& key) {
    try {
      read_records(spec, 0);
      FAIL() << key;
    } catch (const RecipeError& error) {
      EXPECT_TRUE(std::string_view(error.what()).starts_with(place + ": data.sources[0]." + key + ": "))
          << error.what();
    }
  };
  auto table = source(folder.write("x.csv", "question,answer\nq,a\n"));
  table.prompt = "{question}";
  table.completion = "{anwser}";
  refused(table, table.path + ":2", "completion");
  auto lines = source(folder.write("x.jsonl", R"({"q":"1","a":"2"})"
                                              "\n"
                                              R"({"a":"2"})"
                                              "\n"));
  lines.prompt = "{q}";
  lines.completion = "{a}";
  refused(lines, lines.path + ":2", "prompt");
  lines.prompt = "{a}";
  lines.group = "{q}";
  refused(lines, lines.path + ":2", "group");
  lines.group.clear();
  lines.system = "{q}";
  refused(lines, lines.path + ":2", "system");
}

TEST(Records, ColumnsFillPlaceholders) {
  TemporaryFolder folder;
  auto spec = source(folder.write("x.csv", "question,answer,topic\nWhat is 1+1?,2,maths\n"));
  spec.prompt = "{question} {{as a number}} ({topic:3})";
  spec.completion = "{answer}";
  spec.system = "You know {topic}.";
  spec.group = "{topic}";
  const auto records = read_records(spec, 3);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(shown(records[0]), "system:You know maths.|user:What is 1+1? {as a number} (mat)|assistant:2|");
  EXPECT_EQ(records[0].group, "maths");
  EXPECT_EQ(records[0].source, 3);
  EXPECT_EQ(records[0].place, spec.path + ":2");
  EXPECT_EQ(records[0].completion(), "2");
  EXPECT_EQ(records[0].prompt().size(), 2u);
}

TEST(Placeholders, CutAtCharactersAndWords) {
  const Columns columns = {{"t", "one two three"}, {"u", "\xC3\xA9\xC3\xA9\xC3\xA9"}};
  EXPECT_EQ(fill_placeholders("{t:9}", columns, "k"), "one two");
  EXPECT_EQ(fill_placeholders("{u:3}", columns, "k"), "\xC3\xA9");
  EXPECT_EQ(fill_placeholders("{t:99}", columns, "k"), "one two three");
}

TEST(Placeholders, MistakesNameTheKeyAndTheNearestColumn) {
  const Columns columns = {{"question", "q"}};
  const std::pair<const char*, const char*> cases[] = {{"{qestion}", "did you mean 'question'?"},
                                                       {"{question", "'{' without '}'"},
                                                       {"a } b", "'}' without '{'"},
                                                       {"{question:x}", "number of bytes"},
                                                       {"{}", "no column ''"}};
  for (const auto& [pattern, expected] : cases) {
    try {
      fill_placeholders(pattern, columns, "data.sources[0].prompt");
      FAIL() << pattern;
    } catch (const RecipeError& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("data.sources[0].prompt"), std::string::npos) << error.what();
    }
  }
}

TEST(Records, LimitChoosesByHashAndKeepsFileOrder) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "{\"text\":\"number " + std::to_string(i) + "\"}\n";
  DataSpec spec;
  spec.sources = {source(folder.write("x.jsonl", lines))};
  spec.sources[0].limit = 10;
  const auto some = read_records(spec);
  ASSERT_EQ(some.size(), 10u);
  std::vector<int> numbers;
  for (const auto& record : some) numbers.push_back(std::stoi(record.text.substr(7)));
  EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  EXPECT_GT(numbers.back(), 50);  // not just the first ten
  spec.seed = 8;
  EXPECT_NE(shown(read_records(spec)[0]) + shown(read_records(spec)[1]), shown(some[0]) + shown(some[1]));
}

TEST(Records, FoldersAndUnknownEndingsSayWhatToSet) {
  TemporaryFolder folder;
  EXPECT_THROW(read_records(source(folder / ""), 0), RecipeError);
  EXPECT_THROW(read_records(source(folder.write("x.bin", "a")), 0), RecipeError);
  EXPECT_THROW(read_records(source(folder / "missing.jsonl"), 0), FormatError);
  auto licences = source(folder / "");
  licences.format = "licences";
  EXPECT_THROW(read_records(licences, 0), FormatError);
}

TEST(Records, TextFilesAndLines) {
  TemporaryFolder folder;
  EXPECT_EQ(shown(read_records(source(folder.write("x.txt", "one\ntwo\n")), 0)[0]), "one\ntwo\n");
  auto lines = source(folder.write("y.txt", "\xEF\xBB\xBFone\r\n\ntwo"));
  lines.format = "lines";
  const auto records = read_records(lines, 0);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].text, "two");
  EXPECT_EQ(records[1].place, lines.path + ":3");
}

// Files that are read in turns, by several readers: a line for each file and key, whatever was told before.
TEST(Records, AColumnThatMayMeanSomethingIsToldOnceForEachFile) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 3; ++i)
    lines += R"({"prompt":"q","completion":"a","weight":70,"train":"ICE 5","label":0})"
             "\n";
  const auto first = folder.write("a.jsonl", lines), second = folder.write("b.jsonl", lines);
  testing::internal::CaptureStderr();
  for (const auto& file : {first, second, first, second}) EXPECT_EQ(read_records(source(file), 0).size(), 3u);
  const auto told = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 6) << told;
  for (const auto& file : {first, second})
    for (const auto* key : {"weight", "train", "label"})
      EXPECT_NE(told.find(file + ":1: " + key + ": "), std::string::npos) << key << told;
}

}  // namespace
}  // namespace retort
