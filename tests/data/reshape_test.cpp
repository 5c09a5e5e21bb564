// Nested columns, and records in somebody else's words.
#include "data/reshape.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/json_path.h"
#include "data/rows.h"
#include "data/temporary_folder.h"

namespace retort {
namespace {

TEST(NestedColumns, ReachIntoObjectsAndListsInTheFilesSpelling) {
  const std::string choices =
      R"({"text":["red","dark blue"],"label":["A","B"],"n":[1.50,null,{"z":1,"a":2}]})";
  const auto text = [&](const char* path) { return text_inside(choices, path).text; };
  EXPECT_EQ(text(".text[0]"), "red");
  EXPECT_EQ(text(".text[-1]"), "dark blue");
  EXPECT_EQ(text(".text"), R"(["red","dark blue"])");
  EXPECT_EQ(text(".text[*]"), "red\ndark blue");
  EXPECT_EQ(text(".text[*, ]"), "red, dark blue");
  EXPECT_EQ(text(".text[*\\n\\n]"), "red\n\ndark blue");
  EXPECT_EQ(text(".text[A. ]"), "A. red\nB. dark blue");
  EXPECT_EQ(text(".text[1) ]"), "1) red\n2) dark blue");
  EXPECT_EQ(text(".n[0]"), "1.50");
  EXPECT_EQ(text(".n[1]"), "");
  EXPECT_EQ(text(".n[2]"), R"({"z":1,"a":2})");
  EXPECT_EQ(text_inside(R"([{"t":"a"},{"t":"b"}])", "[*; ].t").text, "a; b");
  EXPECT_EQ(text_inside(R"("[1, 2]")", "[0]").problem, "the column holds no list or object");
  EXPECT_EQ(text_inside(" [1, 2]", "[1]").text, "2");  // of a table
  const std::pair<const char*, const char*> wrong[] = {
      {".texts", "there is no 'texts'; there are text, label, n"},
      {".text[2]", "there is no item [2]; there are 2"},
      {".text[-3]", "there is no item [-3]; there are 2"},
      {"[0]", "[0] is asked of what is no list"},
      {".text.a", "'a' is asked of a list"},
      {".text[0].a", "is asked of what is no list or object"},
      {".text[x]", "expected [number], [*], [A. ] or [1. ], found [x]"},
      {".text[", "expected .name"},
  };
  for (const auto& [path, expected] : wrong)
    EXPECT_NE(text_inside(choices, path).problem.find(expected), std::string::npos)
        << path << ": " << text_inside(choices, path).problem;
}

TEST(NestedColumns, ArePlaceholders) {
  const Columns columns = {{"a", R"({"b":["x","y"]})"}, {"a.b[0]", "own"}, {"c", "text"}};
  EXPECT_EQ(fill_placeholders("{a.b[1]} {a.b[*: ]} {a.b[0]} {a.b[*, ]:2}", columns, "k"), "y x: y own x,");
  try {
    fill_placeholders("{c.d}", columns, "k");
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_STREQ(error.what(), "k: {c.d}: the column holds no list or object");
  }
  try {
    fill_placeholders("{d.e}", columns, "k");
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("the data has no column 'd.e'"), std::string::npos);
  }
}

class Words : public ::testing::Test {
 protected:
  static NamedValues names(std::vector<std::pair<std::string, std::string>> all) {
    for (auto& [name, value] : all) value = "\"" + value + "\"";
    return {std::move(all)};
  }
  std::string shown(const std::string& lines) {
    spec.path = folder.write("x.jsonl", lines);
    std::string out;
    for (const auto& record : read_records(spec, 0))
      for (const auto& message : record.messages) out += message.role + ":" + message.content + "|";
    return out;
  }
  std::string problem(const std::string& lines) {
    try {
      shown(lines);
    } catch (const Error& error) { return error.what(); }
    return "";
  }
  SourceSpec spec;
  TemporaryFolder folder;
};

TEST_F(Words, FieldsAndRolesAreReadByTheFilesOwnNames) {
  const std::string line =
      R"({"data":{"turns":[{"who":"patient","said":"it hurts"},{"who":"doctor","said":"where?"}]},)"
      R"("note":"n"})";
  EXPECT_NE(problem(line).find("no kind of record is recognised"), std::string::npos);
  spec.fields_of_records = names({{"messages", "data.turns"}, {"role", "who"}, {"content", "said"}});
  EXPECT_NE(problem(line).find("unknown role"), std::string::npos) << problem(line);
  spec.roles = names({{"patient", "user"}, {"doctor", "assistant"}});
  EXPECT_EQ(shown(line), "user:it hurts|assistant:where?|");
  spec.fields_of_records.entries.push_back({"system", "\"note\""});
  spec.kind = "sharegpt";  // reads "conversations"
  EXPECT_NE(problem(line).find("conversations"), std::string::npos);
  spec.kind = "auto";
  EXPECT_NE(problem(R"({"data":{"turn":[]}})").find("x.jsonl:1: data.turns: this key is missing"),
            std::string::npos)
      << problem(R"({"data":{"turn":[]}})");
}

TEST_F(Words, AnotherFieldOfTheSameNameIsNotPassedOver) {
  spec.fields_of_records = names({{"content", "said"}});
  const std::string both =
      R"({"messages":[{"role":"user","content":"a","said":"b"},{"role":"assistant","content":"c"}]})";
  EXPECT_NE(problem(both).find("message 1: content: stands beside 'said'"), std::string::npos)
      << problem(both);
  spec.fields_of_records = names({{"messages", "dialogue"}});
  const std::string lists =
      R"({"messages":[{"role":"user","content":"a"}],"dialogue":[{"role":"user","content":"a"}]})";
  EXPECT_NE(problem(lists).find("messages: stands beside 'dialogue'"), std::string::npos) << problem(lists);
}

TEST_F(Words, TablesAreRenamedToo) {
  spec.fields_of_records = names({{"instruction", "frage"}, {"output", "antwort"}});
  spec.path = folder.write("x.csv", "frage,antwort\n1,2\n");
  const auto records = read_records(spec, 0);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].messages[0].content, "1");
  EXPECT_EQ(records[0].messages[1].content, "2");
}

TEST_F(Words, WhatMeansNothingIsRefused) {
  const std::string line =
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})";
  spec.fields_of_records = names({{"mesages", "x"}});
  EXPECT_NE(problem(line).find("data.sources[0].fields: 'mesages' is nothing that is read"),
            std::string::npos);
  spec.fields_of_records = {{{"messages", "3"}}};
  EXPECT_NE(problem(line).find("data.sources[0].fields.messages: expected a name, found 3"),
            std::string::npos);
  spec.fields_of_records = {};
  spec.roles = names({{"x", "nobody"}});
  EXPECT_NE(problem(line).find("data.sources[0].roles.x: expected one of system, user, assistant"),
            std::string::npos);
  spec.roles = names({{"x", "user"}});
  spec.prompt = "{q}";
  spec.completion = "{a}";
  EXPECT_NE(problem(line).find("roles and fields are for records of messages"), std::string::npos);
}

TEST_F(Words, ToolCallsKeepTheirSpellingUnderOtherNames) {
  spec.fields_of_records = names({{"content", "said"}});
  spec.path = folder.write(
      "x.jsonl",
      R"({"messages":[{"role":"user","said":"q"},{"role":"assistant","tool_calls":[{"function":{"name":"f",)"
      R"("arguments":{"z":1.50,"a":12345678901234567890123}}}]}]})");
  EXPECT_EQ(read_records(spec, 0)[0].messages[1].fields,
            R"("tool_calls":[{"function":{"name":"f","arguments":{"z":1.50,"a":12345678901234567890123}}}])");
}

}  // namespace
}  // namespace retort
