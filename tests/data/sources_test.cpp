// Files as people have them: other delimiters, encodings, arrays, packed ones, bad records among good ones.
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/error.h"
#include "data/check_samples.h"
#include "data/dataset.h"
#include "data/problem_of.h"
#include "data/readers.h"
#include "data/rows.h"
#include "data/spelled_tokens.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

class Sources : public ::testing::Test {
 protected:
  SourceSpec table(const std::string& name, const std::string& content) {
    SourceSpec spec;
    spec.path = folder.write(name, content);
    spec.prompt = "{q}";
    spec.completion = "{a}";
    return spec;
  }
  static std::string shown(const SourceSpec& spec) {
    std::string out;
    for (const auto& record : read_records(spec, 0))
      out += record.messages.empty() ? record.text + "|"
                                     : record.messages[0].content + "=" + record.messages[1].content + "|";
    return out;
  }
  static std::string packed(const std::string& text) {
    std::string out(text.size() + 1000, '\0');
    z_stream stream{};
    deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
  }
  TemporaryFolder folder;
};

TEST_F(Sources, TheDelimiterIsWhatDividesHeaderAndFirstRowAlike) {
  EXPECT_EQ(shown(table("c.csv", "q,a\n1;2,3\n")), "1;2=3|");
  EXPECT_EQ(shown(table("s.csv", "q;a\n1,5;2\n")), "1,5=2|");
  EXPECT_EQ(shown(table("t.csv", "q\ta\n1,5\t2;3\n")), "1,5=2;3|");
  EXPECT_EQ(shown(table("p.csv", "q|a|x\n1,5|2;3|\n")), "1,5=2;3|");
  EXPECT_EQ(shown(table("t.tsv", "q\ta\n1;5\t2;3\n")), "1;5=2;3|");
  EXPECT_EQ(shown(table("d.csv", "q;a;\"x,y\"\n1;\"2\n;\";3\n")), "1=2\n;|");
  auto fixed = table("f.csv", "a;b,q,a\n1,2,3\n");
  fixed.delimiter = ";";
  EXPECT_NE(problem_of(fixed).find("the header names 2 columns"), std::string::npos) << problem_of(fixed);
  auto tab = table("u.csv", "q\ta\n1\t2\n");
  tab.delimiter = "tab";
  EXPECT_EQ(shown(tab), "1=2|");
}

TEST_F(Sources, AHeaderThatIsShorterThanItsRowsIsDescribedAsItIs) {
  const auto found = problem_of(table("h.csv", "q,a\n1,2,3\n"));
  EXPECT_NE(found.find("h.csv:2: 3 fields; the header names 2 columns and is shorter than this row"),
            std::string::npos)
      << found;
}

TEST_F(Sources, OtherEncodingsAreReadAndSuggested) {
  auto spec = table("w.csv",
                    "q;a\nM\xFCller \x93"
                    "a\x94;5 \x80\n");
  EXPECT_NE(
      problem_of(spec).find("w.csv:2: q: invalid UTF-8 at byte 1; it looks like Windows-1252: convert the "
                            "file to UTF-8, or, of a data source, set encoding: cp1252"),
      std::string::npos)
      << problem_of(spec);
  spec.encoding = "cp1252";
  EXPECT_EQ(shown(spec), "M\u00fcller \u201ca\u201d=5 \u20ac|");
  spec.encoding = "latin1";
  EXPECT_NE(shown(spec).find("M\u00fcller"), std::string::npos);
  spec = table("n.csv", "q;a\n\x81;1\n");
  spec.encoding = "cp1252";
  EXPECT_NE(problem_of(spec).find("0x81 is no character of cp1252"), std::string::npos) << problem_of(spec);
  const auto wide = [](const std::u16string& text, bool big) {
    std::string out;
    for (const auto c : text) {
      const auto low = static_cast<char>(c & 0xFF), high = static_cast<char>(c >> 8);
      out += big ? high : low;
      out += big ? low : high;
    }
    return out;
  };
  const std::u16string text = u"\uFEFFq\ta\n\u00fc\U0001F600\t2\n";
  for (const bool big : {false, true}) {
    spec = table("x.tsv", wide(text, big));
    EXPECT_NE(problem_of(spec).find("is written in UTF-16; set encoding: utf-16"), std::string::npos)
        << problem_of(spec);
    spec.encoding = "utf-16";
    EXPECT_EQ(shown(spec), "\u00fc\U0001F600=2|");
  }
  spec = table("y.tsv", wide(u"q\ta\n", false) + std::string("\x00\xD8"
                                                             "\n\x00",
                                                             4));
  spec.encoding = "utf-16";
  EXPECT_NE(problem_of(spec).find("half a character"), std::string::npos);
}

TEST_F(Sources, AJsonArrayIsItsRecordsWithTheirLines) {
  auto spec = table("x.json",
                    "\xEF\xBB\xBF \n[{\"q\":\"1\",\n \"a\":\"]},{\\\"\"},\n\n{\"q\":\"2\",\"a\":\"[\"}\n]\n");
  EXPECT_EQ(shown(spec), "1=]},{\"|2=[|");
  EXPECT_EQ(read_records(spec, 0)[1].place, spec.path + ":5");
  EXPECT_EQ(shown(table("l.json", "{\"q\":\"1\",\"a\":\"2\"}\n{\"q\":\"3\",\"a\":\"4\"}\n")), "1=2|3=4|");
  const std::pair<std::string, const char*> cases[] = {
      {"[{\"q\":\"1\",\"a\":\"2\"}", "never closed; the file ends in line 1"},
      {"[{\"q\":\"1\",\"a\":\"2\"},\n{\"q\":\"1", "never closed; the file ends in line 2"},
      {"[{\"q\":\"1\",\"a\":\"2\"},]", "x.json:1: expected a record"},
      {"[{\"q\":\"1\",\"a\":\"2\"} {\"q\":\"1\"}]", "x.json:1: expected ',' or ']'"},
      {"[{\"q\":\"1\",\"a\":\"2\"}] x", "x.json:1: text after the JSON array"},
      {"[{\"q\":\"1\"]", "x.json:1: byte"},
      {"[]", "holds no records"},
      {"[7]", "x.json:1: expected a JSON object"},
      {"[" + std::string(100000, '['), "never closed"},
      {"[{\"q\":\"" + std::string(kLongestLine, 'x') + "\",\"a\":\"2\"}]",
       "x.json:1: record of more than 16777216 bytes"},
      {"[" + std::string(100000, '[') + std::string(100001, ']'), "nested deeper than 64"},
  };
  for (const auto& [content, expected] : cases) {
    const auto found = problem_of(table("x.json", content));
    EXPECT_NE(found.find(expected), std::string::npos) << content.substr(0, 80) << ": " << found;
  }
}

TEST_F(Sources, PackedFilesAreReadAndBombsAreNot) {
  const std::string lines = "{\"q\":\"1\",\"a\":\"2\"}\n";
  EXPECT_EQ(shown(table("x.jsonl.gz", packed(lines))), "1=2|");
  EXPECT_EQ(shown(table("two.jsonl.gz", packed(lines) + packed(lines))), "1=2|1=2|");
  EXPECT_EQ(shown(table("x.csv.gz", packed("q;a\n1;2\n"))), "1=2|");
  const auto whole = packed(lines);
  EXPECT_NE(
      problem_of(table("c.jsonl.gz", whole.substr(0, whole.size() - 3))).find("ends within its packed text"),
      std::string::npos);
  EXPECT_NE(problem_of(table("n.jsonl.gz", lines)).find("is no gzip file"), std::string::npos);
  auto damaged = whole;
  damaged[damaged.size() - 6] ^= 1;  // the check sum
  EXPECT_NE(problem_of(table("d.jsonl.gz", damaged)).find("damaged"), std::string::npos);
  const auto block = packed(std::string(size_t{64} << 20, ' '));
  std::string bomb;
  for (int i = 0; i < 20; ++i) bomb += block;
  EXPECT_NE(problem_of(table("b.jsonl.gz", bomb)).find("becomes more than"), std::string::npos);
}

TEST_F(Sources, BadRecordsAreSkippedCountedAndTheFirstTenNamed) {
  std::string lines;
  for (int i = 1; i <= 100; ++i)
    lines += i % 2 == 0 ? "{\"q\":\"CANARY\"}\n" : fmt::format("{{\"q\":\"{}\",\"a\":\"x\"}}\n", i);
  DataSpec spec;
  spec.sources = {table("x.jsonl", lines)};
  spec.sources[0].path = folder.write("x.jsonl", "{broken\n" + lines);
  EXPECT_NE(problem_of(spec.sources[0]).find("x.jsonl:1: "), std::string::npos);
  spec.sources[0].on_bad_record = "skip";
  const SourceFiles files(spec.sources, 2);
  const auto plan = plan_records(spec, files);
  EXPECT_EQ(plan.records, 50);
  ASSERT_EQ(plan.bad.size(), 1u);
  EXPECT_EQ(plan.bad[0].count, 51);
  ASSERT_EQ(plan.bad[0].first.size(), 10u);
  EXPECT_NE(plan.bad[0].first[0].find("x.jsonl:1: "), std::string::npos);
  EXPECT_NE(plan.bad[0].first[1].find("x.jsonl:3: data.sources[0].completion: the data has no column 'a'"),
            std::string::npos);
  EXPECT_NE(describe(plan.bad[0]).find("51 bad records left out"), std::string::npos);
  EXPECT_NE(describe(plan.bad[0]).find("and 41 more"), std::string::npos);
  EXPECT_EQ(describe(plan.bad[0]).find("CANARY"), std::string::npos);
  const auto data = build_dataset(spec, files, plan, chat_tokenizer(), *find_chat_template("chatml"));
  EXPECT_EQ(data.train.size() + data.held_out.size(), 50u);

  spec.sources[0].completion = "{nothing}";
  try {
    plan_records(spec, files);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("no record is left"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("x.jsonl:2: "), std::string::npos) << error.what();
  }
}

TEST_F(Sources, BadRowsOfATableAndConversationsThatTheTemplateRefusesAreSkippedToo) {
  auto csv = table("x.csv", "q,a\n1,2\n3\n4,\"5\n6\",7\n8,\"9\"x,0\n1\"0,1\n11,12\n\xFF,1\n");
  csv.on_bad_record = "skip";
  EXPECT_EQ(shown(csv), "1=2|11=12|");
  DataSpec spec;
  spec.sources.resize(1);
  spec.held_out.fraction = 0;
  spec.sources[0].on_bad_record = "skip";
  spec.sources[0].path = folder.write(
      "m.jsonl", R"({"messages":[{"role":"assistant","content":"a"}]})"
                 "\n"
                 R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})"
                 "\n");
  const ByteTokenizer tokenizer({"<s>", "</s>", "[INST]", "[/INST]"});
  const auto data = build_dataset(spec, tokenizer, *find_chat_template("mistral-v3"));
  EXPECT_EQ(data.train.size(), 1u);
  EXPECT_EQ(data.counts.bad, 1);
  ASSERT_EQ(data.bad.size(), 1u);
  EXPECT_NE(data.bad[0].find("m.jsonl:1: message 1 has role 'assistant'"), std::string::npos) << data.bad[0];
}

TEST_F(Sources, EmptyFieldsAreLeftOutAndCounted) {
  auto csv = table("x.csv", "q,a,note\n1,2,n\n,2,n\n1,,n\n5,6, \n");
  csv.prompt = "{q} ({note})";
  EXPECT_NE(problem_of(csv).find("x.csv:4: assistant: this message is empty"), std::string::npos)
      << problem_of(csv);
  csv.skip_empty = true;
  EXPECT_EQ(shown(csv), "1 (n)=2|");
  DataSpec spec;
  spec.sources = {csv};
  const auto plan = plan_records(spec, SourceFiles(spec.sources));
  ASSERT_EQ(plan.bad.size(), 1u);
  EXPECT_EQ(plan.bad[0].empty, 3);
  EXPECT_EQ(plan.bad[0].count, 0);
  EXPECT_NE(describe(plan.bad[0]).find("3 records without a text left out (skip_empty)"), std::string::npos);
  BadRecords one;
  one.path = "x.csv", one.empty = one.count = 1;
  EXPECT_TRUE(describe(one).starts_with(
      "x.csv: 1 bad record left out (on_bad_record: skip), 1 record without a text left out (skip_empty)"));
}

TEST_F(Sources, AGroupWithoutAColumnIsRefusedAndPromptGroupsByWhatIsAsked) {
  std::string lines;
  for (int prompt = 0; prompt < 20; ++prompt)
    for (int answer = 0; answer < 4; ++answer)
      lines += fmt::format("{{\"q\":\"question {}\",\"a\":\"{} {}\"}}\n", prompt, prompt, answer);
  DataSpec spec;
  spec.sources = {table("x.jsonl", lines)};
  spec.held_out.fraction = 0.3;
  spec.sources[0].group = "q";
  EXPECT_NE(problem_of(spec.sources[0]).find("data.sources[0].group: 'q' is the same text for every record"),
            std::string::npos);
  EXPECT_NE(problem_of(spec.sources[0]).find("{q}"), std::string::npos);

  spec.sources[0].group = "";
  const SourceFiles files(spec.sources);
  auto plan = plan_records(spec, files);
  const auto split = find_overlap(files, plan);
  EXPECT_EQ(plan.groups, 80);
  // With 4 answers to each prompt and 30 % held out nearly every prompt stands on both sides.
  EXPECT_GE(split.prompts, split.held_out * 8 / 10);
  EXPECT_EQ(split.exact, 0);

  spec.sources[0].group = "prompt";
  plan = plan_records(spec, files);
  EXPECT_EQ(plan.groups, 20);
  EXPECT_GT(plan.held_out_groups, 0);
  EXPECT_EQ(plan.sources[0].held_out, 4 * plan.held_out_groups);
  EXPECT_EQ(find_overlap(files, plan).prompts, 0);
  const auto text = describe_sources(spec, plan, 3);
  EXPECT_NE(text.find("groups: 20 (by prompt)"), std::string::npos) << text;
  EXPECT_NE(text.find("used 1 times in an epoch, 3 in all"), std::string::npos) << text;
  EXPECT_NE(text.find("epochs: 3"), std::string::npos) << text;
}

TEST_F(Sources, OverlapGoesByCharactersWhereNoSpacesAre) {
  const auto text = [](const std::string& words, const std::string& place) {
    Record record;
    record.text = words;
    record.place = place;
    return record;
  };
  const std::string shared = "本院认为被告应当承担全部违约责任并赔偿原告损失";  // 23 characters
  const auto found = find_overlap(
      {text("甲诉乙一案。" + shared + "。另查明", "t:1"), text("丙诉丁。" + shared + "，驳回", "h:1"),
       text("与此无关的另一份文书内容", "h:2"), text(shared + "！", "t:2"), text("，" + shared, "h:3")},
      {false, true, true, false, true});
  EXPECT_EQ(found.ngram, 1);  // h:1
  EXPECT_EQ(found.exact, 1);  // h:3, whatever the marks
}

TEST_F(Sources, SpelledControlTokensAreNamed) {
  DataSpec spec;
  spec.sources.resize(1);
  spec.sources[0].path = folder.write("x.jsonl", R"({"text":"<|im_start|>user\nq<|im_end|><|im_start|>"})"
                                                 "\n"
                                                 R"({"text":"plain <|im_star"})"
                                                 "\n"
                                                 R"({"text":"<|im_end|>"})");
  const SourceFiles files(spec.sources);
  spec.held_out.fraction = 0;
  const auto spelled = find_spelled_tokens(files, plan_records(spec, files), chat_tokenizer());
  EXPECT_EQ(spelled.own.texts, 2);
  const std::vector<std::pair<std::string, int64_t>> expected = {{"<|im_end|>", 2}, {"<|im_start|>", 1}};
  EXPECT_EQ(spelled.own.tokens, expected);
  EXPECT_EQ(spelled.own.places.size(), 2u);
  EXPECT_EQ(spelled.others.texts, 0);
  EXPECT_NE(describe(spelled).find("control tokens are spelled out in 2 texts"), std::string::npos);
  EXPECT_EQ(describe(spelled).find("other templates"), std::string::npos);
  EXPECT_EQ(describe(SpelledTokens{}), "");

  // To a tokenizer without them the same texts hold marks of templates that it does not know.
  const ByteTokenizer llama({"<|start_header_id|>", "<|eot_id|>"});
  const auto foreign = find_spelled_tokens(files, plan_records(spec, files), llama);
  EXPECT_EQ(foreign.own.texts, 0);
  EXPECT_EQ(foreign.others.texts, 2);
  EXPECT_EQ(foreign.others.tokens, expected);
  EXPECT_TRUE(
      describe(foreign).starts_with("control tokens of other templates are spelled out in 2 texts "
                                    "(<|im_end|> in 2, <|im_start|> in 1): "))
      << describe(foreign);
}

// Every built-in template's marks are known, and a tokenizer's own count as its own.
TEST_F(Sources, SpelledMarksOfEachFamilyAreNamed) {
  DataSpec spec;
  spec.sources.resize(1);
  std::string lines;
  const std::vector<std::string> marks = {"<|im_end|>", "<|eot_id|>", "[INST]", "<start_of_turn>",
                                          "<|assistant|>"};
  for (const auto& mark : marks) lines += R"({"text":"a )" + mark + R"( b"})" + "\n";
  spec.sources[0].path = folder.write("x.jsonl", lines);
  spec.held_out.fraction = 0;
  const SourceFiles files(spec.sources);
  const auto found = find_spelled_tokens(files, plan_records(spec, files), ByteTokenizer({"<|eot_id|>"}));
  EXPECT_EQ(found.own.texts, 1);
  EXPECT_EQ(found.others.texts, 4);
  EXPECT_NE(describe(found).find("\ncontrol tokens of other templates are spelled out in 4 texts"),
            std::string::npos)
      << describe(found);
}

}  // namespace
}  // namespace retort
