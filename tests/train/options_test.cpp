// What a recipe can switch on: dropout, noise, recomputation, bf16, 8-bit moments, full fine-tuning. And
// nothing grows.
#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "train/tiny_run.h"

namespace retort {
namespace {

double first_loss(const TrainSpec& spec, TinyRun& run, at::ScalarType compute = at::kFloat,
                  double* last = nullptr) {
  const TemporaryFolder folder;
  double first = 0;
  auto job = run.job(folder / "run");
  job.compute = compute;
  const auto result = train(spec, job,
                            {.on_step =
                                 [&](const StepRecord& record) {
                                   if (record.step == 1) first = record.loss;
                                 },
                             .on_note = [](const std::string& line) { ADD_FAILURE() << line; }});
  if (last) *last = result.last_loss;
  return first;
}

std::string trained(TrainSpec spec, const AdapterSpec& adapter = lora()) {
  const TemporaryFolder folder;
  TinyRun run(adapter);
  train(spec, run.job(folder / "run"));
  return run.bytes();
}

int64_t entries(const char* folder) {
  int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST(Options, DropoutAndNoiseAreDrawnByStepAndForest) {
  auto spec = tiny_spec();
  const auto plain = trained(spec);
  EXPECT_NE(trained(spec, lora(4, 0.3)), plain);
  EXPECT_EQ(trained(spec, lora(4, 0.3)), trained(spec, lora(4, 0.3)));
  spec.neftune_alpha = 5;
  const auto noisy = trained(spec);
  EXPECT_NE(noisy, plain);
  EXPECT_EQ(trained(spec), noisy);
  spec.seed = 9;
  EXPECT_NE(trained(spec), noisy);
}

// Each forest of each step gets a key of its own, and gets it again in a second run.
TEST(Options, NoTwoForestsDropTheSame) {
  auto spec = tiny_spec();
  spec.threads = 1;
  std::vector<uint64_t> keys[2];
  for (auto& each : keys) {
    const TemporaryFolder folder;
    TinyRun run;
    auto job = run.job(folder / "run");
    job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
      if (pass.training) each.push_back(pass.dropout_key);
      return next_token_objective()(model, forest, pass);
    };
    train(spec, job);
  }
  EXPECT_EQ(keys[0], keys[1]);
  EXPECT_GT(keys[0].size(), 8u);
  std::sort(keys[0].begin(), keys[0].end());
  EXPECT_EQ(std::unique(keys[0].begin(), keys[0].end()), keys[0].end());
}

TEST(Options, RecomputationChangesNoByte) {
  auto spec = tiny_spec();
  spec.neftune_alpha = 5;
  const auto kept = trained(spec, lora(4, 0.3));
  spec.recompute = true;
  EXPECT_EQ(trained(spec, lora(4, 0.3)), kept);
}

TEST(Options, Bf16StartsWhereFp32DoesAndLearns) {
  auto spec = tiny_spec();
  spec.epochs = 8;
  TinyRun fp32, bf16;
  double last = 0;
  const auto exact = first_loss(spec, fp32), rounded = first_loss(spec, bf16, at::kBFloat16, &last);
  EXPECT_NEAR(rounded / exact, 1, 0.02);
  EXPECT_NE(rounded, exact);
  EXPECT_LT(last, 0.8 * rounded);
  for (const auto& leaf : bf16.leaves) EXPECT_EQ(leaf.tensor->scalar_type(), at::kFloat) << leaf.name;
}

// bf16 masters would lose it: 1 - 0.001 = 1 there.
TEST(Options, ASmallRateMovesEveryWeight) {
  TinyRun run;
  for (auto& [name, tensor, place] : run.leaves) {
    const at::NoGradGuard no_graph;
    if (name.ends_with("lora_B.weight")) tensor->normal_(0, 0.1);
  }
  std::vector<Tensor> before;
  for (const auto& leaf : run.leaves) before.push_back(leaf.tensor->detach().clone());
  auto spec = tiny_spec();
  spec.steps = 1;
  spec.optimizer.learning_rate = 1e-4;
  double last = 0;
  first_loss(spec, run, at::kBFloat16, &last);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_GT(before[i].ne(*run.leaves[i].tensor).to(at::kFloat).mean().item<double>(), 0.99)
        <<  // a few gradients are 0 in bf16
        run.leaves[i].name;
}

TEST(Options, EveryOptimizerLearns) {
  for (const auto* kind : {"adamw", "adamw8bit", "sgd", "lion"}) {
    auto spec = tiny_spec();
    spec.epochs = 8;
    spec.optimizer.kind = kind;
    spec.optimizer.momentum = 0.9;
    spec.optimizer.learning_rate = kind == std::string("sgd") ? 0.1 : 1e-2;
    TinyRun run;
    double last = 0;
    const auto first = first_loss(spec, run, at::kFloat, &last);
    EXPECT_LT(last, 0.8 * first) << kind;
  }
}

TEST(Options, FullFineTuningOfATiedModelLearns) {
  AdapterSpec full;
  full.kind = "full";
  for (const auto* family : {"qwen2", "llama"}) {  // tied, untied
    auto spec = tiny_spec();
    spec.epochs = 6;
    spec.optimizer.kind = "adamw8bit";
    spec.optimizer.learning_rate = 3e-3;
    TinyRun run(full, family);
    double last = 0;
    const auto first = first_loss(spec, run, at::kFloat, &last);
    EXPECT_LT(last, 0.8 * first) << family;
  }
}

// 10,000 steps leave memory, files and threads as they were; RETORT_TEST_STEPS=10000 takes them all.
TEST(Options, ThousandsOfStepsLeaveNothingBehind) {
  const char* wanted = std::getenv("RETORT_TEST_STEPS");
  auto spec = tiny_spec();
  spec.steps = wanted ? std::atoll(wanted) : 600;
  spec.batch.samples = 2;
  spec.checkpoint.every = spec.steps / 10;
  spec.evaluate.every = spec.steps / 10;
  struct Use {
    int64_t bytes = 0, files = 0, threads = 0;
  };
  Use early, late;
  const auto use = [] {
    int64_t all = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return Use{resident * 4096, entries("/proc/self/fd"), entries("/proc/self/task")};
  };
  const TemporaryFolder folder;
  TinyRun run;
  train(spec, run.job(folder / "run"), {.on_step = [&](const StepRecord& record) {
          if (record.step == spec.steps / 3) early = use();
          // The thread that saved a checkpoint may still be on its way out.
          for (int wait = 0; record.step == spec.steps && wait < 500; ++wait) {
            late = use();
            if (late.threads <= early.threads) break;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
        }});
  EXPECT_EQ(late.files, early.files);
  EXPECT_EQ(late.threads, early.threads);
  EXPECT_LT(late.bytes - early.bytes, 3 << 20) << early.bytes << " -> " << late.bytes;
}

}  // namespace retort
