// Every kind of task on the files under data/questions, with SmolLM2 itself. Skipped where the model is
// absent.
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "eval/answer_cost.h"
#include "eval/check_tasks.h"
#include "eval/common_prefix.h"
#include "eval/evaluate.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kSource = source_dir();
std::string question_file(const std::string& name) { return (kSource / "data/questions" / name).string(); }

EvalTaskSpec task(const std::string& kind, const std::string& path, int64_t few_shot = 0,
                  const std::string& examples = "") {
  EvalTaskSpec spec;
  spec.kind = kind;
  spec.path = path.empty() ? "" : question_file(path);
  spec.few_shot = few_shot;
  spec.examples = examples.empty() ? "" : question_file(examples);
  spec.max_tokens = 8;
  return spec;
}

template <class Work> std::string refusal(Work work) {
  try {
    work();
  } catch (const Error& error) { return error.what(); }
  return "";
}

class Tasks : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = kSource / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
    if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is absent: run tools/setup";
    static const auto shared =
        load_model({.path = file.string(), .weights = "f32", .compute = "f32"});  // fast at a few rows a pass
    loaded = &shared;
  }
  Subject subject() const { return {*loaded->model, *loaded->tokenizer, loaded->chat}; }
  const LoadedModel* loaded = nullptr;
};

// Losses of transformers in fp32 on the same file (tools/golden/greedy.py).
TEST_F(Tasks, PerplexityEqualsTransformers) {
  const auto record = read_json(kSource / "tests/golden/models/smollm2_greedy.json");
  std::vector<Sample> samples;
  double nats = 0, weight = 0;
  for (const auto& run : record["runs"]) {
    Sample sample{run["ids"].get<std::vector<int32_t>>(), {}, "golden"};
    sample.weights.assign(sample.tokens.size(), 1.0f);
    const auto predicted = static_cast<double>(sample.tokens.size() - 1);
    nats += run["loss"].get<double>() * predicted;
    weight += predicted;
    samples.push_back(std::move(sample));
  }
  const auto measured = measure_perplexity(subject(), samples);
  EXPECT_EQ(measured.weight, weight);
  EXPECT_NEAR(measured.nats_per_token(), nats / weight, 1e-4);
}

// Generated answers of a model whose layers are in its file, and what they cost, which is told.
TEST_F(Tasks, AnswersOfAModelInItsFileAreTheSame) {
  const auto in_file =
      load_model({.path = loaded->path.string(), .weights = "f32", .compute = "f32", .schedule = "layers"});
  ASSERT_NE(in_file.model->stream(), nullptr);
  const Subject streamed{*in_file.model, *in_file.tokenizer, loaded->chat};
  EvalSpec spec;
  auto bees = task("completion", "");
  bees.path = (kSource / "data/samples/beekeeping.jsonl").string();
  bees.limit = 3;
  bees.max_tokens = 4;
  spec.tasks = {bees};
  const auto answers = [&](const Subject& of) {
    const auto results = evaluate(spec, {}, of, {{}, {}}, ".");
    std::vector<std::string> all;
    for (const auto& sample : results.at(0).samples) all.push_back(sample.got);
    return all;
  };
  const auto found = answers(streamed);
  EXPECT_EQ(found.size(), 3u);
  EXPECT_EQ(found, answers(subject()));
  EXPECT_NE(describe_answers(spec, streamed, loaded->path).find(" are read for each token of up to "),
            std::string::npos);
  EXPECT_EQ(describe_answers(spec, subject(), loaded->path), "");
  spec.tasks = {task("perplexity", "")};
  EXPECT_EQ(describe_answers(spec, streamed, loaded->path), "");
}

TEST_F(Tasks, EachKindRunsFromItsSpecAndGivesTheMetricsThatGatesMayName) {
  EvalSpec spec;
  auto text_choice = task("multiple_choice", "science.csv");
  text_choice.name = "science by text";
  text_choice.score = "text";
  auto tides = task("perplexity", "");
  tides.path = (kSource / "data/samples/tides.txt").string();
  auto bees = task("completion", "");
  bees.path = (kSource / "data/samples/beekeeping.jsonl").string();
  bees.limit = 2;
  auto sums = task("numeric", "arithmetic.jsonl", 2, "arithmetic-examples.jsonl");
  sums.max_tokens = 16;
  sums.limit = 4;
  spec.tasks = {tides,       bees, task("multiple_choice", "science.csv", 5, "science-examples.csv"),
                text_choice, sums, task("code", "functions.jsonl")};
  spec.pass_tokens = 128;  // the text is longer than one pass
  const auto folder = std::filesystem::path(testing::TempDir()) / "retort_tasks";
  make_folder(folder);

  const auto inputs = check_tasks(spec, {}, 0);
  const auto results = evaluate(spec, {}, subject(), {{}, {}}, folder);
  ASSERT_EQ(results.size(), spec.tasks.size());
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_EQ(results[i].task, inputs[i].task);
    EXPECT_TRUE(results[i].kind == "perplexity" || results[i].count == inputs[i].count) << results[i].task;
    const auto names = metric_names(spec.tasks[i]);
    ASSERT_EQ(results[i].metrics.size(), names.size()) << results[i].task;
    for (size_t m = 0; m < names.size(); ++m) EXPECT_EQ(results[i].metrics[m].first, names[m]);
  }
  EXPECT_GT(results[0].count, 1);  // cut into pieces
  EXPECT_GT(*results[0].metric("bits_per_byte"), 0.3);
  EXPECT_LT(*results[0].metric("bits_per_byte"), 2.0);
  EXPECT_GT(*results[3].metric("accuracy"), 0.25);  // better than guessing
  EXPECT_GT(*results[4].metric("answered"), 0.4);
  std::ifstream completions(folder / "code.samples.jsonl");
  std::vector<std::string> ids;
  for (std::string line; std::getline(completions, line);)
    ids.push_back(parse_json(line, "samples").at("task_id"));
  EXPECT_EQ(ids, (std::vector<std::string>{"functions/0", "functions/1", "functions/2", "functions/3"}));
  std::filesystem::remove_all(folder);
}

// Options share their question in a forest, and all of them the worked examples, which are kept as keys and
// values; each alone in a row of its own scores the same.
TEST_F(Tasks, SharedOptionsScoreAsEachAlone) {
  const auto questions = read_choice_questions(question_file("science.csv"), 3);
  const auto examples = read_choice_questions(question_file("science-examples.csv"), 2);
  const auto samples = choice_samples(*loaded->tokenizer, examples, questions, ChoiceScore::text);
  auto some = subject();
  some.row_tokens = 48;  // several passes: the prefix is used
  ASSERT_GT(common_rows(samples), 30);
  Saving saving;
  ASSERT_GE(build_forests(samples, some.row_tokens, 4, &saving).size(), 2u);
  const auto together = likelihoods(some, samples);
  some.threads = 1;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto alone = likelihoods(some, {samples[i]})[0];
    EXPECT_NEAR(alone.log_probability, together[i].log_probability, 2e-4) << i;
    EXPECT_EQ(alone.tokens, together[i].tokens);
  }
}

TEST(CommonRows, EndBeforeWhatIsScored) {
  const Sample a{{1, 2, 3, 4, 5}, {0, 0, 0, 1, 1}, "a"}, b{{1, 2, 3, 4, 6}, {0, 0, 0, 0, 1}, "b"},
      c{{1, 9}, {0, 1}, "c"};
  EXPECT_EQ(common_rows({b}), 3);     // row 3 predicts the scored token
  EXPECT_EQ(common_rows({a, b}), 2);  // token 3 of a is scored: row 2 stays
  EXPECT_EQ(common_rows({b, a}), 2);
  EXPECT_EQ(common_rows({a, b, c}), 0);  // c's row 0 predicts a scored token
  EXPECT_EQ(common_rows({}), 0);
  EXPECT_EQ(without_first({a}, 2)[0].tokens, (std::vector<int32_t>{3, 4, 5}));
}

TEST(CheckTasks, RefusesBeforeAnythingRuns) {
  EvalSpec spec;
  spec.tasks = {task("perplexity", "")};
  EXPECT_EQ(refusal([&] { check_tasks(spec, {}, 0); }),
            "eval task 'perplexity': no sample is held out; raise data.held_out or name a file (path)");
  EXPECT_EQ(check_tasks(spec, {}, 7)[0].count, 7);
  spec.tasks = {task("numeric", "")};
  EXPECT_EQ(refusal([&] { check_tasks(spec, {}, 7); }),
            "eval task 'numeric': numeric needs a question file (path)");
  spec.tasks = {task("multiple_choice", "science.csv", 3)};
  EXPECT_EQ(refusal([&] { check_tasks(spec, {}, 7); }),
            "eval task 'multiple_choice': few_shot is 3, but no file of examples is named");
  spec.tasks = {task("multiple_choice", "science.csv", 6, "science-examples.csv")};
  EXPECT_NE(refusal([&] { check_tasks(spec, {}, 7); }).find("few_shot is 6, but "), std::string::npos);
  spec.tasks = {task("code", "functions.jsonl"), task("code", "functions.jsonl")};
  EXPECT_EQ(refusal([&] { check_tasks(spec, {}, 7); }),
            "eval task 'code': two tasks have this name; set `name` for one of them");
  spec.tasks[1].name = "../code";
  EXPECT_EQ(refusal([&] { check_tasks(spec, {}, 7); }),
            "eval task '../code': its name becomes a file name; write it without '/' and '\\'");
  spec.tasks = {task("code", "none.jsonl")};
  EXPECT_NE(refusal([&] { check_tasks(spec, {}, 7); }).find("none.jsonl: "), std::string::npos);
}

TEST(CheckGates, ComparisonsOfExportsNeedNoTask) {
  BoundSpec gate;
  gate.metric = "comparison.kl_nats";
  gate.at_most = 0.2;
  EXPECT_EQ(refusal([&] { check_gates({gate}, {}); }), "");
  gate.at_most.reset();
  EXPECT_EQ(refusal([&] { check_gates({gate}, {}); }),
            "gate[0]: 'comparison.kl_nats' has no bound; set at_least, at_most, worse_than_base_by or "
            "against_base");
}

TEST(CheckGates, NameWhatIsMeasured) {
  EvalSpec spec;
  spec.tasks = {task("multiple_choice", "science.csv")};
  BoundSpec gate;
  gate.metric = "multiple_choice.acuracy";
  gate.at_least = 0.5;
  EXPECT_EQ(
      refusal([&] { check_gates({gate}, spec); }),
      "gate[0].metric: no task measures 'multiple_choice.acuracy'; did you mean 'multiple_choice.accuracy'?");
  gate.metric = "multiple_choice.accuracy";
  EXPECT_EQ(refusal([&] { check_gates({gate}, spec); }), "");
  gate.at_least.reset();
  EXPECT_EQ(refusal([&] { check_gates({gate}, spec); }),
            "gate[0]: 'multiple_choice.accuracy' has no bound; set at_least, at_most, worse_than_base_by or "
            "against_base");
  EXPECT_EQ(refusal([&] { check_gates({gate}, {}); }),
            "gate[0].metric: no task measures 'multiple_choice.accuracy'; eval.tasks is empty");
}

}  // namespace
}  // namespace retort
