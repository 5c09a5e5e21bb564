// `retort init`: files as people have them become recipes that pass `retort check`.
#include <zstd.h>

#include <regex>

#include "base/json.h"
#include "cli/run_program.h"
#include "cli/sparse_model.h"
#include "where.h"  // tests

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kTokenizer = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
constexpr int kRecords = 24;

const char* const kAsked[] = {"How long may a swarm wait", "Who signs for a parcel",
                              "When does the office open", "What does a hive weigh"};

std::string question(int i) { return fmt::format("{}, case {}?", kAsked[i % 4], i); }
std::string answer(int i) { return fmt::format("About {} days, as the house rules say.", i + 2); }

std::string lines(const std::function<OrderedJson(int)>& record) {
  std::string text;
  for (int i = 0; i < kRecords; ++i) text += record(i).dump() + "\n";
  return text;
}

class Init : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kTokenizer)) GTEST_SKIP() << kTokenizer << " is absent: run tools/setup";
    auto model = random_sparse_model("qwen3_moe", kTokenizer.string());
    write_hf_folder(folder.path / "base", model, WeightType::bf16, uint64_t{1} << 30, 1);
  }
  Result init(const std::string& data, const std::string& output) const {
    return retort(
        fmt::format("init '{}' --model '{}' --output '{}'", data, (folder.path / "base").string(), output));
  }
  // The recipe that is written for `data`; it passes `check`, which counts as many steps as its comment says.
  std::string recipe_for(const std::string& data) {
    const auto file = (folder.path / fmt::format("{}.yaml", ++written)).string();
    const auto made = init(data, file);
    EXPECT_EQ(made.exit, 0) << data << ": " << made.err;
    if (made.exit != 0) return "";
    const auto checked = retort("check '" + file + "' --no-step --samples 0");
    const auto recipe = read_text(file);
    EXPECT_EQ(checked.exit, 0) << data << ": " << checked.err << recipe;
    std::smatch said;
    EXPECT_TRUE(std::regex_search(recipe, said, std::regex("# (\\d+ steps)\n"))) << recipe;
    EXPECT_NE(checked.out.find(fmt::format(" million weights in {};", said.str(1))), std::string::npos)
        << said.str(1) << "\n"
        << checked.out;
    return recipe;
  }
  Folder folder;
  int written = 0;
};

void expect_lines(const std::string& recipe, std::initializer_list<const char*> wanted) {
  for (const char* line : wanted) EXPECT_NE(recipe.find(line), std::string::npos) << line << "\n" << recipe;
}

}  // namespace

TEST_F(Init, TablesBecomeRecipesThatPassCheck) {
  std::string quoted = "id,Question,Answer\n", labels = "text,label\n", german = "Frage;Antwort\n",
              notes = "patient_id,note,code\n";
  for (int i = 0; i < kRecords; ++i) {
    quoted += fmt::format("{},\"Dear all,\nshe asked: \"\"{}\"\"\",\"{}\"\n", i, question(i), answer(i));
    labels += fmt::format("{} It took {} days.,{}\n", i % 2 ? "Never again." : "Lovely.", i,
                          i % 2 ? "bad" : "good");
    german += fmt::format("Wie hei\xdft Fall {}?;M\xfcller {}\n", i, i);  // cp1252
    notes += fmt::format("p{},\"Cough for {} days, no fever\",J{}\n", i / 3, i, 10 + i % 5);
  }
  expect_lines(recipe_for(folder.write("quoted.csv", quoted)),
               {"# Question is asked, Answer is the answer\n      prompt: \"{Question}\"\n",
                "completion: \"{Answer}\"", "held_out: {count: 2}"});
  expect_lines(recipe_for(folder.write("labels.csv", labels)),
               {"# label has 2 different values: it is the label of text\n", "completion: \"{label}\"",
                "system: \"Answer with one of: bad, good\"", "{kind: completion, max_tokens: 32}"});
  expect_lines(recipe_for(folder.write("german.csv", german)),
               {"# LOOK HERE: no name says which column is the answer", "encoding: cp1252",
                "prompt: \"Frage: {Frage}\"\n"});
  expect_lines(recipe_for(folder.write("notes.csv", notes)),
               {"completion: \"{code}\"", "# patient_id names 8 groups", "group: \"{patient_id}\"",
                // One group of three is held out: 21 samples are 11 steps of 2 in an epoch.
                "epochs: 3   # 33 steps\n", "batch: {samples: 2, "});
}

TEST_F(Init, ConversationsBecomeRecipesThatPassCheck) {
  OrderedJson sharegpt = OrderedJson::array();
  for (int i = 0; i < kRecords; ++i)
    sharegpt.push_back(
        {{"id", i},
         {"conversations",
          {{{"from", "human"}, {"value", question(i)}}, {{"from", "gpt"}, {"value", answer(i)}}}}});
  expect_lines(recipe_for(folder.write("sharegpt.json", sharegpt.dump(1))),
               {"# the column conversations holds conversations of from and value\n"});
  const OrderedJson tool = {{"type", "function"},
                            {"function", {{"name", "days"}, {"parameters", {{"type", "object"}}}}}};
  const auto with_tools = lines([&](int i) -> OrderedJson {
    return {{"tools", {tool}},
            {"messages",
             {{{"role", "user"}, {"content", question(i)}},
              {{"role", "assistant"},
               {"content", ""},
               {"tool_calls",
                {{{"type", "function"}, {"function", {{"name", "days"}, {"arguments", {{"case", i}}}}}}}}},
              {{"role", "tool"}, {"content", std::to_string(i + 2)}},
              {{"role", "assistant"}, {"content", answer(i)}}}}};
  });
  const auto recipe = recipe_for(folder.write("tools.jsonl", with_tools));
  expect_lines(recipe,
               {"# the model's own template has no place for tools", "  template: |-\n", "tool_calls"});
  const auto dialogues = lines([&](int i) -> OrderedJson {
    return {
        {"turns", {{{"who", "patient"}, {"said", question(i)}}, {{"who", "doctor"}, {"said", answer(i)}}}}};
  });
  expect_lines(recipe_for(folder.write("dialogues.jsonl", dialogues)),
               {"fields: {\"messages\": \"turns\", \"role\": \"who\", \"content\": \"said\"}",
                "roles: {\"patient\": \"user\", \"doctor\": \"assistant\"}"});
}

TEST_F(Init, RecordsBecomeRecipesThatPassCheck) {
  OrderedJson alpaca = OrderedJson::array();
  for (int i = 0; i < kRecords; ++i)
    alpaca.push_back(
        {{"instruction", question(i)}, {"input", i % 2 ? "Answer in days." : ""}, {"output", answer(i)}});
  expect_lines(recipe_for(folder.write("alpaca.json", alpaca.dump(1))), {"Alpaca's records"});
  const auto kto = lines([&](int i) -> OrderedJson {
    return {{"prompt", question(i)}, {"completion", answer(i)}, {"label", i % 3 != 0}};
  });
  expect_lines(recipe_for(folder.write("kto.jsonl", kto)),
               {"on_bad_record: skip", "# 8 of 24 records are left out; the first: ", "label: is false"});
  const auto pairs = lines([&](int i) -> OrderedJson {
    return {{"prompt", question(i)}, {"chosen", answer(i)}, {"rejected", "No."}};
  });
  expect_lines(recipe_for(folder.write("pairs.jsonl", pairs)),
               {"# chosen and rejected are a pair of preferences", "completion: \"{chosen}\""});
  const auto squad = lines([&](int i) -> OrderedJson {
    return {{"context", "House rules: " + answer(i)},
            {"question", question(i)},
            {"answers", {{"text", {answer(i)}}, {"answer_start", {13}}}}};
  });
  expect_lines(recipe_for(folder.write("squad.jsonl", squad)),
               {"prompt: \"{context}\\n\\n{question}\"", "completion: \"{answers.text[0]}\""});
}

// The rest of what people have: other separators, other packings, columns inside of columns.
TEST_F(Init, PackedAndNestedFilesBecomeRecipesThatPassCheck) {
  std::string tabs = "Question\tAnswer\n";
  for (int i = 0; i < kRecords; ++i) tabs += question(i) + "\t" + answer(i) + "\n";
  expect_lines(recipe_for(folder.write("tabs.tsv", tabs)),
               {"prompt: \"{Question}\"", "completion: \"{Answer}\""});
  const auto plain = lines([](int i) -> OrderedJson {
    return {{"question", question(i)}, {"answer", answer(i)}};
  });
  std::string packed(ZSTD_compressBound(plain.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 3));
  expect_lines(recipe_for(folder.write("packed.jsonl.zst", packed)),
               {"prompt: \"{question}\"", "completion: \"{answer}\""});
  const auto nested = lines([](int i) -> OrderedJson {
    return {{"id", i},
            {"sample", {{"question", question(i)}, {"answer", answer(i)}, {"hints", {"a", "b"}}}},
            {"meta", {{"source", "the office"}}}};
  });
  expect_lines(recipe_for(folder.write("nested.jsonl", nested)),
               {"# sample.question is asked, sample.answer is the answer", "prompt: \"{sample.question}\"",
                "completion: \"{sample.answer}\""});
  const auto talks = lines([](int i) -> OrderedJson {
    return {{"dialogue",
             {{"number", i},
              {"turns",
               {{{"role", "user"}, {"content", question(i)}},
                {{"role", "assistant"}, {"content", answer(i)}}}}}}};
  });
  expect_lines(recipe_for(folder.write("talks.jsonl", talks)),
               {"fields: {\"messages\": \"dialogue.turns\"}"});
}

// A clause that the question is about may be one of them: nobody sees that from what is written down.
TEST_F(Init, NamesEveryColumnThatIsNotUsed) {
  const auto clauses = folder.write("clauses.jsonl", lines([](int i) -> OrderedJson {
                                      return {{"contract", fmt::format("C-{}", i)},
                                              {"clause", answer(i)},
                                              {"question", question(i)},
                                              {"answer", answer(i)}};
                                    }));
  const auto file = (folder.path / "clauses.yaml").string();
  const auto made = init(clauses, file);
  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_NE(made.out.find("\nnot used      contract, clause\n"), std::string::npos) << made.out;
  EXPECT_NE(
      read_text(file).find("\n      # not used: contract, clause; prompt takes a column whose name it has "
                           "in braces\n"),
      std::string::npos)
      << read_text(file);
  // A line break in a name does not end the comment.
  const auto odd = folder.write("odd.jsonl", lines([](int i) -> OrderedJson {
                                  return {{"question", question(i)}, {"answer", answer(i)}, {"a\nb", i}};
                                }));
  const auto recipe = recipe_for(odd);
  EXPECT_NE(recipe.find("# not used: a\\x0ab; "), std::string::npos) << recipe;
  const auto none = recipe_for(folder.write("none.csv", "question,answer\nWhy?,So.\nWho?,We.\n"));
  EXPECT_EQ(none.find("not used"), std::string::npos) << none;
}

TEST_F(Init, ParquetBecomesARecipeThatPassesCheck) {
  if (!fs::exists(fs::path(binary_dir()) / "retort-tables"))
    GTEST_SKIP() << "retort-tables is not built: run tools/setup parquet";
  expect_lines(
      recipe_for((fs::path(source_dir()) / "tests/golden/tables/questions.parquet").string()),
      {"# Question is asked, Answer is the answer", "prompt: \"{Question}\"", "completion: \"{Answer}\""});
}

TEST_F(Init, TextsBecomeRecipesThatPassCheck) {
  std::string plain;
  fs::create_directories(folder.path / "texts");
  for (int i = 0; i < kRecords; ++i) {
    plain += question(i) + " " + answer(i) + "\n";
    folder.write(fmt::format("texts/{}.txt", i), question(i) + "\n\n" + answer(i) + "\n");
  }
  expect_lines(recipe_for(folder.write("plain.txt", plain)), {"format: lines", "to be learned as texts"});
  expect_lines(recipe_for((folder.path / "texts").string()), {"format: text", "held_out: {count: 2}"});
  expect_lines(recipe_for(folder.write("one.txt", "A text alone.\n\nIn two parts.\n")),
               {"held_out: {fraction: 0}"});
}

TEST_F(Init, RefusesWhatItCannotDo) {
  const auto data = folder.write("a.csv", "question,answer\nWhy?,So.\n");
  const auto there = folder.write("there.yaml", "mine");
  expect_one_line(init(data, there), 2,
                  "retort: " + there + ": is there already; name another file with --output");
  EXPECT_EQ(read_text(there), "mine");
  const auto none = init(folder.write("bad.jsonl", "{\"question\": \n"), (folder.path / "b.yaml").string());
  EXPECT_EQ(none.exit, 2);
  EXPECT_NE(none.err.find("bad.jsonl:1"), std::string::npos) << none.err;
  EXPECT_FALSE(fs::exists(folder.path / "b.yaml"));
}

// It is for the one who has unpacked the archive; from a build there is nothing beside the program.
TEST(Demo, SaysWhatIsMissing) {
  const auto result = retort("demo");
  EXPECT_EQ(result.exit, 2);
  EXPECT_NE(result.err.find("share/retort/demo/recipe.yaml: missing; the archive named demo brings it"),
            std::string::npos)
      << result.err;
}

}  // namespace retort
