// What the training loop adds to forward and backward: planning forests, the norm, the update, a checkpoint.
// SmolLM2-135M, LoRA of rank 16 on every linear layer, samples of a few dozen tokens with a shared beginning,
// as a domain task has them.
//   tools/build release loop_bench && build/release/tools/bench/loop_bench [--steps 3] [--samples 16]
//   [--threads 2]
// CPU milliseconds of all threads together, so that a busy machine changes little.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <ctime>
#include <filesystem>

#include "adapters/attach.h"
#include "base/random.h"
#include "ops/memory.h"
#include "train/optimizer.h"
#include "train/step.h"
#include "train/train.h"

namespace {

using namespace retort;

double cpu() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class Work> double milliseconds(int times, Work&& work) {
  const double start = cpu();
  for (int i = 0; i < times; ++i) work();
  return 1e3 * (cpu() - start) / times;
}

std::vector<Sample> made_up(int64_t count) {
  const Draws draws(1, "bench");
  std::vector<Sample> samples;
  for (int64_t i = 0; i < count; ++i) {
    Sample sample;
    const auto length = 40 + static_cast<int64_t>(draws.below(static_cast<uint64_t>(i), 30));
    for (int64_t t = 0; t < length; ++t) {
      const auto owner = t < 24 ? 0 : i;  // 24 tokens of instruction
      sample.tokens.push_back(
          100 + static_cast<int32_t>(draws.below(static_cast<uint64_t>(1000 * (owner + 1) + t), 40000)));
      sample.weights.push_back(t + 8 < length ? 0 : 1);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

int main(int count, char** arguments) {
  std::string path = "checkpoints/smollm2-135m-instruct-q4_1.gguf";
  int64_t samples = 16;
  TrainSpec spec;
  spec.steps = 3;
  spec.threads = 2;
  CLI::App app("The training loop's own cost");
  app.add_option("--model", path);
  app.add_option("--steps", spec.steps);
  app.add_option("--samples", samples, "of a step");
  app.add_option("--threads", spec.threads);
  CLI11_PARSE(app, count, arguments);
  keep_freed_memory();
  spec.batch.samples = samples;
  spec.checkpoint.every = 0;

  const auto loaded = load_weights({.path = path});
  AdapterSpec adapter;
  const auto trainables = attach(*loaded.model, adapter, 1);
  const auto data = made_up(4 * samples);
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_loop_bench_{}", getpid());
  const auto compute = compute_type({.path = path});
  double before = 0, wall = 0;
  const auto result =
      train(spec,
            {.model = *loaded.model,
             .trainables = trainables,
             .samples = data,
             .held_out = {},
             .objective = next_token_objective(),
             .compute = compute,
             .folder = folder},
            {.on_start = [&](int64_t, int64_t) { before = cpu(); },
             .on_step =
                 [&](const StepRecord& step) {
                   const double now = cpu();
                   wall += step.seconds;
                   fmt::print("step {}: {} tokens in {} rows, {:.0f} ms of CPU, {:.0f} ms\n", step.step,
                              step.tokens, step.rows, 1e3 * (now - before), 1e3 * step.seconds);
                   before = now;
                 }});
  fmt::print("{}: {:.0f} tokens/s, {:.0f} rows/s, peak {:.0f} MiB\n", compute == at::kFloat ? "f32" : "bf16",
             static_cast<double>(result.tokens) / wall, static_cast<double>(result.rows) / wall,
             static_cast<double>(result.peak_bytes) / (1 << 20));

  std::vector<int64_t> chosen(static_cast<size_t>(samples));
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<int64_t>(i);
  fmt::print("plan {:.2f} ms\n",
             milliseconds(20, [&] { plan_step(data, chosen, spec.batch.pass_tokens, spec.threads); }));
  std::vector<Tensor> sums;
  int64_t parameters = 0;
  for (const auto& trainable : trainables) {
    sums.push_back(at::full(trainable.tensor->sizes(), 1e-4f));
    parameters += trainable.tensor->numel();
  }
  fmt::print("norm of {} parameters {:.2f} ms\n", parameters,
             milliseconds(20, [&] { gradient_norm(sums, spec.threads); }));
  for (const auto* kind : {"adamw", "adamw8bit", "lion", "sgd"}) {
    spec.optimizer.kind = kind;
    Optimizer optimizer(spec.optimizer, trainables, spec.threads);
    optimizer.update(sums, 1, 1e-6);
    fmt::print("{} {:.2f} ms\n", kind, milliseconds(20, [&] { optimizer.update(sums, 1, 1e-6); }));
  }
  std::filesystem::remove_all(folder);
  return 0;
}
