#include "distill/on_policy.h"

#include <gtest/gtest.h>

#include "adapters/attach.h"
#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/stop.h"
#include "data/temporary_folder.h"  // tests/data
#include "distill/quality.h"
#include "forest/random_samples.h"  // tests/forest
#include "models/golden_llama.h"    // tests/models
#include "text/byte_tokenizer.h"    // tests/text
#include "train/batches.h"
#include "train/schedule.h"

namespace retort {
namespace {

class OnPolicy : public testing::Test {
 protected:
  OnPolicy() {
    teacher.loaded = golden_llama(3);
    teacher.vocabulary = teacher.loaded.model->head.linear.weight.rows;
    samples = random_samples(Draws(1, "prompts"), 24, 14, 6);
    train_spec.steps = 12;
    train_spec.threads = 1;
    train_spec.batch.samples = 6;
    train_spec.optimizer.learning_rate = 2e-3;
    train_spec.checkpoint.every = 2;
    distill.loss = "reverse_kl";
    distill.weight = 1;
    distill.on_policy = OnPolicySpec{.rounds = 3, .prompts = 12, .max_tokens = 10};
  }
  struct Trained {
    OnPolicyResult result;
    LoadedModel student;
  };
  Trained run(const std::string& name, const TrainWatch& watch = {}) {
    Trained done{{}, golden_llama()};
    AdapterSpec full;
    full.kind = "full";
    const auto leaves = attach(*done.student.model, full, 1);
    const OnPolicyJob job{{*done.student.model,
                           leaves,
                           samples,
                           held_out,
                           Objective(),
                           at::kFloat,
                           folder / name,
                           {{"test", "1"}}},
                          tokenizer,
                          {},
                          teacher,
                          {"w", "t", "c", "f32", 1}};
    done.result = train_on_policy({train_spec, distill, teacher_spec}, job, watch);
    return done;
  }
  Teacher teacher;
  TeacherSpec teacher_spec;
  TrainSpec train_spec;
  DistillSpec distill;
  std::vector<Sample> samples, held_out;
  ByteTokenizer tokenizer{{}};
  TemporaryFolder folder;
};

// Epochs are counted as the training counts them: a step is full by its tokens too, and samples that
// supervise nothing take no part.
TEST_F(OnPolicy, EpochsAreAsManyStepsAsTrainingMakesOfThem) {
  train_spec.steps = 0;
  train_spec.epochs = 1;
  train_spec.batch.tokens = 30;  // two samples
  for (int i = 0; i < 6; ++i) {
    samples.push_back(samples.front());
    std::fill(samples.back().weights.begin(), samples.back().weights.end(), 0.0f);
  }
  EXPECT_EQ(Batches(samples, train_spec.batch, 7).steps(1), 12);
  EXPECT_EQ(run("epochs").result.train.steps, 12);
}

TEST_F(OnPolicy, RoundsAskTheTeacherOnceAndBringTheStudentNearer) {
  train_spec.steps = 30;
  const auto done = run("a");
  ASSERT_EQ(done.result.rounds.size(), 3u);
  EXPECT_EQ(done.result.train.steps, 30);
  uint64_t weights = teacher.loaded.model->embedding.weight.stored_bytes() +
                     teacher.loaded.model->head.linear.weight.stored_bytes();
  for (const auto* linear : teacher.loaded.model->linears()) weights += linear->weight.stored_bytes();
  for (const auto& round : done.result.rounds) {
    EXPECT_EQ(round.answers, 6);  // half of 12 samples
    EXPECT_EQ(round.answer_tokens, 60);
    EXPECT_GE(round.positions, 100);
    EXPECT_EQ(round.teacher_bytes, weights);
  }
  const auto before = golden_llama();
  const ComputedModel asked{*teacher.loaded.model};
  const auto quality = measure_quality(&asked, {{*before.model}, {*done.student.model}},
                                       build_forests(samples, 100), {tokenizer, teacher.vocabulary, 1});
  EXPECT_LT(quality[1].reverse_kl, 0.8 * quality[0].reverse_kl);
}

TEST_F(OnPolicy, AnAnswerFollowsAWholePromptAndIsWhatIsLearned) {
  auto student = golden_llama();
  const OnPolicyJob job{
      {*student.model, {}, samples, held_out, Objective(), at::kFloat, folder / "unused", {}},
      tokenizer,
      {},
      teacher,
      {"w", "t", "c", "f32", 1}};
  const OnPolicySpec spec{.rounds = 1, .prompts = 12, .data_share = 0, .max_tokens = 10};
  OnPolicyRound round;
  const auto asked = on_policy_samples(spec, job, round, 1, 1);
  ASSERT_EQ(asked.size(), 12u);
  int of_the_data = 0;
  for (const auto& answer : asked) {
    const auto same_prompt = [&](const Sample& sample) {
      return std::equal(sample.tokens.begin(), sample.tokens.begin() + 6, answer.tokens.begin());
    };
    ASSERT_GT(answer.tokens.size(), 6u);
    EXPECT_TRUE(std::any_of(samples.begin(), samples.end(), same_prompt));
    for (size_t i = 0; i < answer.tokens.size(); ++i) EXPECT_EQ(answer.weights[i], i < 6 ? 0 : 1) << i;
    of_the_data += std::any_of(samples.begin(), samples.end(),
                               [&](const Sample& sample) { return sample.tokens == answer.tokens; });
  }
  EXPECT_EQ(round.answers, 12);
  EXPECT_EQ(of_the_data, 0);  // the student's words, not the data's
}

TEST_F(OnPolicy, RoundsHaveOneScheduleAndOneOptimizer) {
  train_spec.schedule = {.kind = "linear", .warmup_steps = 5};
  std::vector<double> rates;
  TrainWatch watch;
  watch.on_step = [&](const StepRecord& step) { rates.push_back(step.learning_rate); };
  run("a", watch);
  ASSERT_EQ(rates.size(), 12u);
  for (int64_t step = 0; step < 12; ++step)
    EXPECT_EQ(rates[static_cast<size_t>(step)], 2e-3 * schedule_share(train_spec.schedule, step, 12)) << step;
  const auto updates = [&](const std::string& checkpoint) {
    return read_json(std::filesystem::path(folder / "a") / checkpoint / "state.json")
        .at("updates")
        .get<int64_t>();
  };
  EXPECT_EQ(updates("round-00/checkpoints/step-00000004"), 4);
  EXPECT_EQ(updates("round-02/checkpoints/step-00000004"), 12);
  // The moments too: a round without what the one before has left is refused, not begun anew.
  std::filesystem::remove_all(folder / "a/round-01/checkpoints");
  std::filesystem::remove_all(folder / "a/round-02");
  try {
    run("a");
    ADD_FAILURE() << "went on without moments";
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("round-01/checkpoints: holds no whole checkpoint"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(OnPolicy, StoppedAnywhereEndsWithTheSameBytes) {
  run("whole");
  int steps = 0;
  TrainWatch watch;
  watch.on_step = [&](const StepRecord&) {
    if (++steps == 7) request_stop();  // inside the second round
  };
  EXPECT_THROW(run("stopped", watch), Stopped);
  forget_stop();
  EXPECT_TRUE(std::filesystem::exists(folder / "stopped/round-00/round.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "stopped/round-01/round.json"));
  run("stopped");
  EXPECT_EQ(sha256_file(folder / "whole/trained.safetensors"),
            sha256_file(folder / "stopped/trained.safetensors"));
}

}  // namespace
}  // namespace retort
