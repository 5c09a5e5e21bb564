// Files of perplexity and completion tasks are read as training reads its own.
#include "eval/task_source.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/temporary_folder.h"
#include "eval/check_tasks.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

class TaskSource : public testing::Test {
 protected:
  void SetUp() override {
    SourceSpec source;
    source.path = folder.write("train.csv", "note,code\nfever,R50\ncough,R05\n");
    source.prompt = "Note: {note}";
    source.completion = "{code}";
    source.system = "You code notes.";
    data.sources = {source};
    data.held_out = {0, 0};
    task.path = folder.write("test.csv", "note,code\nfever,R50\n");
  }
  std::string refusal() {
    try {
      task_records(task, data);
    } catch (const RecipeError& error) { return error.what(); }
    return "";
  }
  TemporaryFolder folder;
  DataSpec data;
  EvalTaskSpec task;
};

TEST_F(TaskSource, APathIsReadAsTrainingReadsItsFiles) {
  const auto records = task_records(task, data);
  ASSERT_EQ(records.size(), 1u);
  ASSERT_EQ(records[0].messages.size(), 3u);
  EXPECT_EQ(records[0].messages[0].content, "You code notes.");
  EXPECT_EQ(records[0].messages[1].content, "Note: fever");
  EXPECT_EQ(records[0].completion(), "R50");
}

// A held-out file in the data's own words was refused, or read otherwise than what was trained on.
TEST_F(TaskSource, APathIsReadWithTheFieldsRolesAndThoughtsOfTraining) {
  const std::string line =
      R"({"turns":[{"role":"patient","content":"q"},{"role":"doctor","content":"a","thinking":"t"}]})";
  auto& source = data.sources[0];
  source = {};
  source.path = folder.write("train.jsonl", line);
  source.fields_of_records = {{{"messages", "\"turns\""}}};
  source.roles = {{{"patient", "\"user\""}, {"doctor", "\"assistant\""}}};
  source.reasoning = "strip";
  data.near_duplicates.remove = true;
  task.path = folder.write("test.jsonl", line + "\n" + line);
  const auto records = task_records(task, data);
  ASSERT_EQ(records.size(), 2u);  // a question that is asked twice counts twice
  EXPECT_EQ(records[0].messages[0].role, "user");
  EXPECT_EQ(records[0].completion(), "a");
  auto other = data.sources[0];
  other.roles = {{{"patient", "\"system\""}, {"doctor", "\"assistant\""}}};
  data.sources.push_back(other);
  EXPECT_NE(refusal().find("in more than one way"), std::string::npos) << refusal();
}

// The same record gives the same tokens and weights on both sides, whatever data.loss says.
TEST_F(TaskSource, SamplesEqualThoseOfTraining) {
  const auto tokenizer = chat_tokenizer();
  const auto& chat = *find_chat_template("plain");
  task.kind = "perplexity";
  for (const auto* loss : {"completion", "all"}) {
    data.loss = loss;
    const auto trained = build_dataset(data, tokenizer, chat).train.list();
    const auto measured = task_samples(task, data, tokenizer, chat, 64);
    ASSERT_EQ(measured.size(), 1u);
    EXPECT_EQ(measured[0].tokens, trained[0].tokens);
    EXPECT_EQ(measured[0].weights, trained[0].weights);
  }
}

TEST_F(TaskSource, TextsAreCutIntoPiecesOfOnePass) {
  task.kind = "perplexity";
  task.path = folder.write("long.txt", std::string(100, 'x'));
  const auto samples = task_samples(task, data, chat_tokenizer(), *find_chat_template("plain"), 32);
  EXPECT_GT(samples.size(), 3u);
}

TEST_F(TaskSource, ASourceOfItsOwnTakesEverything) {
  SourceSpec own;
  own.path = folder.write("other.txt", "question,right,finish\n1?,a,stop\n2?,b,length\n3?,c,stop\n");
  own.format = "csv";
  own.prompt = "Q {question}";
  own.completion = "A {right}";
  own.limit = 1;
  own.reject = RejectSpec{.unless_finished = "finish"};
  task.path.clear();
  task.source = own;
  const auto records = task_records(task, data);
  ASSERT_EQ(records.size(), 1u);
  ASSERT_EQ(records[0].messages.size(), 2u);  // no system text: it says none
  EXPECT_TRUE(records[0].messages[0].content.starts_with("Q "));
  task.source->completion = "{rigth}";
  EXPECT_NE(refusal().find("eval task 'completion': "), std::string::npos);
  EXPECT_NE(refusal().find("source.completion: the data has no column 'rigth' (did you mean 'right'?);"),
            std::string::npos);
}

TEST_F(TaskSource, RefusesWhatHasNoMeaning) {
  auto other = data.sources[0];
  other.system = "Another.";
  data.sources.push_back(other);
  EXPECT_NE(refusal().find("eval task 'completion': path: data.sources reads csv files in more than one way"),
            std::string::npos);
  task.source = data.sources[0];
  EXPECT_NE(refusal().find("path and source are both set"), std::string::npos);
  task.path.clear();
  EXPECT_EQ(refusal(), "");
  task.source->use = "train";
  EXPECT_NE(refusal().find("source: weight, use and group are for training"), std::string::npos);
  task.source->use = "both";
  task.kind = "numeric";
  EvalSpec spec;
  spec.tasks = {task};
  EXPECT_THROW(check_tasks(spec, data, 1), RecipeError);
}

TEST_F(TaskSource, AnEditedFileIsAnotherInput) {
  EvalSpec spec;
  spec.tasks = {task};
  const auto before = task_files_hash(spec);
  EXPECT_EQ(task_files_hash(spec), before);
  folder.write("test.csv", "note,code\nfever,R51\n");
  const auto after = task_files_hash(spec);
  EXPECT_NE(after, before);
  spec.tasks[0].source = data.sources[0];
  EXPECT_NE(task_files_hash(spec), after);
}

TEST_F(TaskSource, AFolderOfQuestionsAndAnEditedScorerAreInputsToo) {
  EvalSpec spec;
  spec.tasks = {task};
  std::filesystem::create_directories(folder / "parts");
  folder.write("parts/a.csv", "note,code\nfever,R50\n");
  spec.tasks[0].path = folder / "parts";
  const auto before = task_files_hash(spec);
  folder.write("parts/b.csv", "note,code\ncough,R05\n");
  const auto after = task_files_hash(spec);
  EXPECT_NE(after, before);
  spec.tasks[0].scored_by = ScoredBySpec{{"python3", folder.write("score.py", "1")}, {"s"}};
  const auto scored = task_files_hash(spec);
  EXPECT_NE(scored, after);
  folder.write("score.py", "2");
  EXPECT_NE(task_files_hash(spec), scored);
}

}  // namespace
}  // namespace retort
