#include "train/train.h"

#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "report/metrics.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

double first_loss(const std::filesystem::path& folder) {
  for (const auto& [step, scalars] : read_metrics(folder / "metrics.jsonl"))
    if (step == 1) return scalars.at(0).second;
  return NAN;
}

}  // namespace

TEST(Train, LearnsItsSamplesAndLeavesTheWeightsInTheFolder) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = tiny_spec();
  spec.epochs = 10;
  const auto start = run.bytes();
  const auto result = train(spec, run.job(folder / "run"));
  EXPECT_EQ(result.steps, 40);  // 30 samples, 8 a step
  EXPECT_EQ(result.planned, 40);
  EXPECT_EQ(result.skipped, 0);
  EXPECT_LT(result.last_loss, 0.6 * first_loss(folder / "run"));
  EXPECT_NE(run.bytes(), start);
  EXPECT_TRUE(result.held_out_after.has_value());
  EXPECT_LT(result.rows, result.tokens);  // prompts are shared
  EXPECT_GT(result.peak_bytes, 1u << 20);

  TinyRun other;
  load_trained(folder / "run", other.leaves);
  EXPECT_EQ(other.bytes(), run.bytes());
  TinyRun larger(lora(8));
  EXPECT_THROW(load_trained(folder / "run", larger.leaves), FormatError);
}

// Pruned rows, padding: DoRA's magnitude over their norm was 0 / 0 from the first step on.
TEST(Train, DoraLearnsBesideRowsOfZeros) {
  const TemporaryFolder folder;
  TinyRun run(AdapterSpec{.kind = "none", .targets = {"all"}, .modules_to_save = {}});
  for (auto* layer : run.loaded.model->linears()) {
    auto dense = layer->weight.dense.clone();
    dense.narrow(0, 0, 3).zero_();
    layer->weight = dense_weight(dense);
  }
  auto adapter = lora();
  adapter.kind = "dora";
  run.leaves = attach(*run.loaded.model, adapter, 3);
  auto spec = tiny_spec();
  spec.steps = 6;
  const auto result = train(spec, run.job(folder / "run"));
  EXPECT_EQ(result.skipped, 0);
  EXPECT_LT(result.last_loss, first_loss(folder / "run"));
  for (const auto& leaf : run.leaves) EXPECT_TRUE(leaf.tensor->isfinite().all().item<bool>()) << leaf.name;
}

// Each step says how far the indexer is from what attention pays, in memory and layer by layer.
TEST(Train, AnIndexerThatLearnsSaysHowFarItIs) {
  const TemporaryFolder folder;
  auto adapter = lora();
  adapter.targets = {"indexer"};
  std::vector<double> told[2];
  for (const bool streamed : {false, true}) {
    ModelSpec model;
    if (streamed) model.schedule = "layers", model.memory = "24KiB";
    TinyRun run(adapter, "deepseek_v32", model);
    auto spec = tiny_spec();
    spec.steps = 12;
    const std::string name = streamed ? "streamed" : "resident";
    train(spec, run.job(folder / name));
    for (const auto& [step, scalars] : read_metrics(std::filesystem::path(folder / name) / "speed.jsonl"))
      for (const auto& [key, value] : scalars)
        if (key == "indexer_kl") told[streamed].push_back(value);
    ASSERT_EQ(told[streamed].size(), 12u);
    EXPECT_LT(told[streamed].back(), 0.8 * told[streamed].front());
  }
  for (size_t step = 0; step < 12; ++step) EXPECT_NEAR(told[0][step], told[1][step], 1e-5);
  TinyRun without;
  auto spec = tiny_spec();
  spec.steps = 1;
  train(spec, without.job(folder / "llama"));
  EXPECT_EQ(read_text(folder / "llama/speed.jsonl").find("indexer_kl"), std::string::npos);
}

TEST(Train, TwoRunsOfOneRecipeEndWithTheSameBytes) {
  const TemporaryFolder folder;
  auto spec = tiny_spec();
  TinyRun one, two, third;
  train(spec, one.job(folder / "one"));
  train(spec, two.job(folder / "two"));
  EXPECT_EQ(one.bytes(), two.bytes());
  EXPECT_EQ(read_text(folder / "one/metrics.jsonl"), read_text(folder / "two/metrics.jsonl"));
  spec.seed = 1;
  train(spec, third.job(folder / "three"));
  EXPECT_NE(one.bytes(), third.bytes());
}

TEST(Train, RowsOfMetricsHaveTheScheduleAsByHand) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = tiny_spec();
  spec.steps = 6;  // one and a half epochs: steps count optimizer updates, not micro-batches
  spec.schedule = {.kind = "linear", .warmup_steps = 2};
  train(spec, run.job(folder / "run"));
  const double shares[] = {0.5, 1.0, 1.0, 0.75, 0.5, 0.25};
  const auto rows = read_metrics(folder / "run/metrics.jsonl");
  ASSERT_EQ(rows.size(), 7u);  // and one held-out loss at the end
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(rows[i].step, static_cast<int64_t>(i) + 1);
    EXPECT_EQ(rows[i].scalars[1].first, "learning_rate");
    EXPECT_DOUBLE_EQ(rows[i].scalars[1].second, 1e-2 * shares[i]);
  }
  EXPECT_EQ(rows[6].scalars[0].first, "held_out_loss");
}

TEST(Train, EvaluationDoesNotDisturbTraining) {
  const TemporaryFolder folder;
  auto spec = tiny_spec();
  spec.neftune_alpha = 5;
  const auto adapter = lora(4, 0.3);
  TinyRun never(adapter), always(adapter);
  train(spec, never.job(folder / "never"));
  spec.evaluate.every = 1;
  std::vector<double> losses;
  const auto result = train(spec, always.job(folder / "always"),
                            {.on_evaluation = [&](int64_t, double loss) { losses.push_back(loss); }});
  EXPECT_EQ(never.bytes(), always.bytes());
  ASSERT_EQ(losses.size(), static_cast<size_t>(result.steps) + 1);
  EXPECT_EQ(result.held_out_before, losses.front());
  EXPECT_EQ(result.held_out_after, losses.back());
}

// 30 samples by 8 are 4 steps: two times in an epoch are after each second step.
TEST(Train, EvaluatesAndSavesSoManyTimesInAnEpoch) {
  const TemporaryFolder folder;
  TinyRun run;
  auto spec = tiny_spec();
  spec.epochs = 2;
  spec.evaluate.per_epoch = 2;
  spec.checkpoint.per_epoch = 1;
  spec.checkpoint.keep_last = 9;
  std::vector<int64_t> steps;
  train(spec, run.job(folder / "run"),
        {.on_evaluation = [&](int64_t step, double) { steps.push_back(step); }});
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 2, 4, 6, 8}));
  int64_t saved = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "run/checkpoints"))
    saved += entry.is_directory();
  EXPECT_EQ(saved, 2);
}

TEST(Train, NothingSupervisedIsAnErrorAtTheStart) {
  const TemporaryFolder folder;
  TinyRun run;
  for (auto& sample : run.samples) std::fill(sample.weights.begin(), sample.weights.end(), 0.0f);
  EXPECT_THROW(train(tiny_spec(), run.job(folder / "run")), RecipeError);
}

}  // namespace retort
