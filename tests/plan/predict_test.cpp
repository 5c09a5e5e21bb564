#include "plan/predict.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "adapters/attach.h"
#include "base/error.h"
#include "ops/use_kernel.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";

AdapterSpec adapter(const std::string& kind, std::vector<std::string> whole = {}) {
  AdapterSpec spec;
  spec.kind = kind;
  spec.modules_to_save = std::move(whole);
  return spec;
}

// What is counted without attaching is what attaching makes.
TEST(TrainableElements, AreThoseThatAttachMakes) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  auto outside = adapter("lora"), rows = adapter("rslora");
  outside.targets = {"all", "embed_tokens", "lm_head"};
  rows.trainable_tokens = {"3", "17"};
  rows.trainable_tokens_head = true;  // which is the embedding
  for (auto& spec : {adapter("lora"), adapter("dora"), adapter("full"), adapter("rslora", {"lm_head"}),
                     adapter("lora", {"q_proj"}), outside, rows}) {
    auto loaded = load_weights({.path = kModel.string()});
    const auto counted = trainable_elements(*loaded.model, spec);
    int64_t made = 0;
    for (const auto& leaf : attach(*loaded.model, spec, 1)) made += leaf.tensor->numel();
    EXPECT_EQ(counted, made) << spec.kind;
    if (spec.kind == "full") {
      EXPECT_EQ(counted, 134515008);  // the model card's parameters
    }
    if (spec.kind == "lora" && spec.modules_to_save.empty() && spec.targets.size() == 1) {
      EXPECT_EQ(counted, 4884480);  // what PEFT prints for r=16 on all linear layers
    }
  }
}

Sample sample(int64_t tokens, int64_t supervised, int32_t start) {
  Sample one;
  for (int64_t i = 0; i < tokens; ++i) one.tokens.push_back(start + static_cast<int32_t>(i));
  one.weights.assign(one.tokens.size(), 0.0f);
  std::fill(one.weights.end() - supervised, one.weights.end(), 1.0f);
  return one;
}

TEST(RunWork, CountsWhatStepsWillHold) {
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 6; ++i) samples.push_back(sample(11, 2, 100 * i));
  samples.push_back(sample(41, 5, 1000));
  TrainSpec spec;
  spec.batch.samples = 2;
  spec.batch.pass_tokens = 64;
  spec.threads = 1;
  spec.epochs = 2;
  const auto work = run_work(spec, samples);
  EXPECT_EQ(work.steps, 8);  // 4 of each epoch
  EXPECT_EQ(work.threads, 1);
  EXPECT_GE(work.most_rows, 40);  // the last token is no row
  EXPECT_LE(work.most_rows, 50);
  EXPECT_EQ(work.rows_at_once, work.most_rows);  // one thread has one forest at a time
  EXPECT_DOUBLE_EQ(work.plain_rows_per_step, 2 * (6 * 10 + 40) / 8.0);
  EXPECT_DOUBLE_EQ(work.rows_per_step, work.plain_rows_per_step);  // they share nothing
}

TEST(RunWork, PartsCutTheStepsAndThreadsSayHowManyAreAtWork) {
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 8; ++i) samples.push_back(sample(11, 2, 100 * i));
  TrainSpec spec;
  spec.batch.samples = 8;
  spec.batch.parts = 4;
  for (const int64_t threads : {1, 2, 3, 9}) {
    spec.threads = threads;
    const auto work = run_work(spec, samples);
    EXPECT_EQ(work.most_forests, 4) << threads;
    EXPECT_EQ(work.most_rows, 20) << threads;  // two samples of 10 rows
    EXPECT_EQ(work.threads, std::min<int64_t>(threads, 4));
    EXPECT_EQ(work.rows_at_once, 20 * work.threads);
  }
}

// Of 400 short samples and a long one, one a step, in an order whose first steps have short ones alone.
struct LongSampleLater {
  std::vector<Sample> samples = std::vector<Sample>(400, sample(11, 2, 0));
  TrainSpec spec;
  explicit LongSampleLater(int64_t steps) {
    samples.push_back(sample(41, 5, 1000));
    spec.batch.samples = 1;
    spec.batch.pass_tokens = 64;
    spec.threads = 1;
    spec.steps = steps;
    const auto meets_it = [&] {
      return std::ranges::any_of(first_steps(spec, samples).samples,
                                 [](const Samples& step) { return step.tokens(0) == 41; });
    };
    for (spec.seed = 1; meets_it();) ++spec.seed;
  }
};

TEST(RunWork, TheLongestSampleCountsThoughTheFirstStepsLackIt) {
  const LongSampleLater later(65);  // one more than are looked at
  EXPECT_EQ(run_work(later.spec, later.samples).most_rows, 40);
  EXPECT_EQ(run_work(later.spec, later.samples).longest, 40);
}

TEST(RunWork, ASampleThatNoStepWillHaveDoesNotCount) {
  const LongSampleLater later(64);
  EXPECT_EQ(run_work(later.spec, later.samples).most_rows, 10);
  EXPECT_EQ(run_work(later.spec, later.samples).longest, 10);
}

TEST(StateBytes, OfEachOptimizer) {
  OptimizerSpec spec;
  EXPECT_EQ(state_bytes(spec), 8);
  spec.kind = "adamw8bit";
  EXPECT_EQ(state_bytes(spec), 2.03125);
  spec.kind = "lion";
  EXPECT_EQ(state_bytes(spec), 4);
  spec.kind = "sgd";
  EXPECT_EQ(state_bytes(spec), 0);
  spec.momentum = 0.9;
  EXPECT_EQ(state_bytes(spec), 4);
}

TEST(RequireMemory, ARunThatCannotFitIsRefusedWithAdvice) {
  Recipe recipe;
  MemoryPrediction need;
  need.weights = 1 << 20;
  EXPECT_NO_THROW(require_memory(need, recipe));
  need.passes = uint64_t{1} << 50;
  try {
    require_memory(need, recipe);
    FAIL() << "accepted";
  } catch (const Failure& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code, Exit::machine_failed);
    EXPECT_NE(text.find("1.0 PiB"), std::string::npos) << text;
    EXPECT_NE(text.find("set train.recompute: true, or lower train.batch.pass_tokens"), std::string::npos)
        << text;
  }
}

// Memory grows as the settings say.
// Tokens of a million samples stay in the store; without one they are packed.
TEST(PredictMemory, SamplesInAStoreAreNotHeld) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const auto loaded = load_weights({.path = kModel.string()});
  Recipe recipe;
  Dataset dataset;
  dataset.train = {sample(1000, 10, 0), sample(3000, 10, 0)};
  const auto packed = predict_memory(recipe, *loaded.model, at::kFloat, {}, dataset).samples;
  recipe.data.cache = "tokens.h5";
  const auto stored = predict_memory(recipe, *loaded.model, at::kFloat, {}, dataset).samples;
  EXPECT_EQ(packed - stored, 3u * 4000);
  EXPECT_LE(stored, 200u);
}

// 300 rows of the tiny llama in fp32: by hand.
TEST(PredictScratch, CountsStatesAndWhatBackwardNeeds) {
  ModelSpec spec;
  spec.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string();
  spec.schedule = "layers", spec.memory = "1MiB";
  Recipe recipe;
  const RunWork work{.most_forests = 3, .most_rows = 100, .longest = 50};
  const auto predicted = [&] {
    const auto loaded = load_weights(spec);
    return static_cast<double>(predict_scratch(recipe, *loaded.model, at::kFloat, work));
  };
  EXPECT_EQ(predicted(), 0);  // they wait in memory
  spec.scratch = std::filesystem::temp_directory_path().string();
  const auto shape = load_weights(spec);
  const auto& config = shape.model->config;
  const auto states = predicted();
  EXPECT_EQ(states, 300.0 * static_cast<double>((config.layers + 3) * config.hidden * 4));
  spec.scratch_holds = "activations";
  const auto numbers = row_numbers(*shape.model, recipe.adapter, 50);
  EXPECT_NEAR(predicted() - states,
              300.0 * static_cast<double>(config.layers) *
                  (4 * numbers.saved + 4 * static_cast<double>(config.heads)),
              1);
  recipe.adapter.kind = "none";
  EXPECT_EQ(predicted(), 0);
}

// 576 numbers of a row are 18 cache lines and become 19 for the 1536 columns of gate and up; of the adapter's
// 16 one line is filled. Of each of two forests at work 2048 rows.
TEST(PredictMemory, CountsRowsThatTilesCopy) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const auto loaded = load_weights({.path = kModel.string()});
  Recipe recipe;
  recipe.train.threads = 2;
  const RunWork work{.threads = 2, .most_forests = 2, .most_rows = 2048, .rows_at_once = 4096};
  const auto passes = [&](const GemmKernel& kernel) {
    const UseKernel use(kernel);
    return predict_memory(recipe, *loaded.model, at::kBFloat16, work, {}).passes;
  };
  GemmKernel plain = *gemm_kernel_portable();
  plain.operand = Operand::bf16, plain.pair = 2;
  GemmKernel tiles = plain;
  tiles.tile_cells = 16;
  EXPECT_EQ(passes(tiles) - passes(plain), 2u * 2048 * (19 + 1) * 64);
}

// 4,884,480 numbers of an adapter. Where a second forest follows, the first one's gradients wait as a sum
// while its activations are there; a lone forest's activations go as its gradients come.
TEST(PredictMemory, ALoneForestTradesActivationsForGradients) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const auto loaded = load_weights({.path = kModel.string()});
  Recipe recipe;
  recipe.train.threads = 1;
  RunWork work{.threads = 1, .most_forests = 1, .most_rows = 2048, .rows_at_once = 2048};
  const auto passes = [&] {
    return static_cast<double>(predict_memory(recipe, *loaded.model, at::kBFloat16, work, {}).passes);
  };
  const auto alone = passes();
  work.most_forests = 2;
  EXPECT_NEAR(passes() - alone, 2 * 4.0 * 4884480, 1);
}

TEST(PredictMemory, FollowsItsKeys) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const auto loaded = load_weights({.path = kModel.string()});
  Recipe recipe;
  recipe.model.path = kModel.string();
  RunWork work{.steps = 100,
               .threads = 2,
               .most_forests = 2,
               .most_rows = 2048,
               .rows_at_once = 4096,
               .most_targets = 100};
  const auto peak = [&] {
    return static_cast<double>(predict_memory(recipe, *loaded.model, at::kBFloat16, work, {}).peak());
  };
  const auto plain = peak();
  recipe.train.recompute = true;
  EXPECT_LT(peak(), 0.5 * plain);
  recipe.train.recompute = false;
  work.rows_at_once = 2048;
  EXPECT_LT(peak(), 0.7 * plain);
  work.threads = 1, work.rows_at_once = 1024;
  EXPECT_LT(peak(), 0.5 * plain);
  work = {.steps = 100,
          .threads = 2,
          .most_forests = 2,
          .most_rows = 2048,
          .rows_at_once = 4096,
          .most_targets = 100};
  EXPECT_GT(static_cast<double>(predict_memory(recipe, *loaded.model, at::kFloat, work, {}).passes),
            1.9 * static_cast<double>(predict_memory(recipe, *loaded.model, at::kBFloat16, work, {}).passes) -
                (1 << 28));
  recipe.adapter.kind = "full";
  EXPECT_GT(peak(), plain + 134515008.0 * 16);  // weights, gradients, two moments in fp32
}

}  // namespace
}  // namespace retort
