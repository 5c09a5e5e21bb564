// Our side of tools/bench/lora_step: a few steps of the program's own training loop, LoRA or every weight, on
// rows of random tokens, each row a text of its own with a loss on every token. Prints one JSON line:
// tokens/s of the median step after the first, peak resident memory, seconds from the start of the process to
// the end of the first step; --profile also the table of `retort run --profile`, on stderr.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>

#include "adapters/attach.h"
#include "base/random.h"
#include "models/layer_stream.h"
#include "models/model.h"
#include "ops/device.h"
#include "ops/device_copies.h"
#include "ops/memory.h"
#include "ops/workers.h"
#include "product_limit.h"
#include "report/run_record.h"
#include "run/profile_report.h"
#include "train/step.h"
#include "train/train.h"

namespace {

using namespace retort;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Sample random_text(int64_t row, int64_t length, int64_t vocabulary) {
  const auto words = static_cast<uint64_t>(std::min<int64_t>(39900, vocabulary - 100));
  const Draws draws(0, "bench rows");
  Sample sample;
  sample.id = fmt::format("row {}", row);
  for (int64_t i = 0; i < length; ++i)
    sample.tokens.push_back(
        100 + static_cast<int32_t>(draws.below(static_cast<uint64_t>(row * length + i), words)));
  sample.weights.assign(sample.tokens.size(), 1);
  return sample;
}

// What the kernel has read from disk for this process.
double disk_bytes() {
  std::ifstream file("/proc/self/io");
  std::string name;
  double value = 0;
  while (file >> name >> value)
    if (name == "read_bytes:") return value;
  return 0;
}

void print_profile(const Profile& measured, at::ScalarType compute, int64_t threads) {
  const auto machine = machine_speed(compute, threads);
  fmt::print(stderr, "{}\n{}\n", table_text(profile_table(measured, machine)),
             profile_summary(measured, machine));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

}  // namespace

int main(int count, char** arguments) try {
  const double started = now();
  ModelSpec spec{.path = "checkpoints/smollm2-135m-instruct-q4_1.gguf", .weights = "bf16"};
  AdapterSpec adapter;
  TrainSpec how;
  int64_t rows = 4, length = 512, steps = 3, row_tokens = 0;
  bool profile = false, read = false, limit = false;
  std::string device_name = "cpu";
  CLI::App app("A step of training on random tokens");
  app.add_option("--model", spec.path);
  app.add_option("--weights", spec.weights, "how the base is held: keep, bf16, nf4 ...");
  app.add_option("--compute", spec.compute, "auto, f32, bf16, int8");
  app.add_option("--device", device_name, "as device of a recipe: auto, cpu, cuda, cuda:N");
  app.add_option("--schedule", spec.schedule, "tokens or layers");
  app.add_option("--memory", spec.memory, "of a base that is read layer by layer");
  app.add_option("--scratch", spec.scratch, "folder where its texts wait between layers");
  app.add_option("--scratch-holds", spec.scratch_holds, "states, or activations too");
  app.add_option("--kind", adapter.kind, "lora or full");
  app.add_option("--rank", adapter.rank);
  app.add_option("--optimizer", how.optimizer.kind);
  app.add_option("--rows", rows);
  app.add_option("--length", length);
  app.add_option("--row-tokens", row_tokens, "of a micro-batch, as train.batch.pass_tokens; 0 = one text");
  app.add_option("--steps", steps);
  app.add_option("--threads", how.threads);
  app.add_flag("--recompute", how.recompute);
  app.add_flag("--profile", profile);
  app.add_flag("--read", read, "no training: the loss of the texts, once, as teaching and scoring read them");
  app.add_flag("--limit", limit, "with --read: also the time of its products alone, weights in memory");
  CLI11_PARSE(app, count, arguments);
  keep_freed_memory();

  const auto device = open_device(device_name);
  auto loaded = load_weights(spec);
  loaded.model->compute_on(device);
  const auto compute = compute_type(spec, device);
  const auto leaves = attach(*loaded.model, adapter, 0);
  std::vector<Sample> samples;
  for (int64_t row = 0; row < rows; ++row)
    samples.push_back(random_text(row, length, loaded.model->config.vocabulary));
  how.steps = steps + 1;
  how.batch.samples = rows;
  how.batch.pass_tokens = row_tokens > 0 ? row_tokens : length;
  how.optimizer.learning_rate = 1e-4;
  how.schedule.kind = "constant";
  how.checkpoint.every = 0;

  std::vector<double> seconds;
  double first = 0, loss = 0, read_before = 0;
  if (read) {
    std::vector<int64_t> all(samples.size());
    std::iota(all.begin(), all.end(), int64_t{0});
    const auto threads = usable_threads(how.threads);
    const auto plan = plan_step(samples, all, how.batch.pass_tokens, threads);
    if (profile) start_profile(0);
    const double began = now();
    read_before = disk_bytes();
    const auto pass_of = [&](const Forest& forest, int64_t) { return make_pass(forest, compute, device); };
    loss = mean_loss({*loaded.model, next_token_objective(), plan, pass_of, threads}).value_or(0);
    const double took = now() - began, from_disk = disk_bytes() - read_before;
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    if (profile) print_profile(stop_profile(), compute, threads);
    const auto* stream = loaded.model->stream();
    fmt::print(
        "{{\"tokens_per_s\": {:.1f}, \"seconds\": {:.1f}, \"peak_mb\": {:.0f}, \"loss\": {:.6f}, "
        "\"read_mb\": {:.1f}, \"layers_mb\": {:.1f}{}}}\n",
        static_cast<double>(rows * length) / took, took, static_cast<double>(usage.ru_maxrss) / 1024, loss,
        from_disk / 1e6, stream ? static_cast<double>(stream->budget().stored) / 1e6 : 0.0,
        limit ? fmt::format(", \"products_s\": {:.2f}",
                            product_seconds(*loaded.model, rows, length, threads, compute))
              : "");
    return 0;
  }
  TrainWatch watch;
  watch.on_step = [&](const StepRecord& step) {
    if (step.step == 1) first = now() - started, read_before = disk_bytes();
    else seconds.push_back(step.seconds);
    if (step.step == 1 && profile) start_profile(0);
    loss = step.loss;
  };
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_lora_step_{}", ::getpid());
  const std::vector<Sample> nothing;
  train(how, {*loaded.model, leaves, samples, nothing, next_token_objective(), compute, folder, {}}, watch);
  std::filesystem::remove_all(folder);
  if (profile) print_profile(stop_profile(), compute, usable_threads(how.threads));
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print(
      "{{\"weights\": \"{}\", \"compute\": \"{}\", \"kind\": \"{}\", \"tokens_per_s\": {:.1f}, \"peak_mb\": "
      "{:.0f}, \"first_step_s\": {:.2f}, \"loss\": {:.6f}, \"read_mb_a_step\": {:.1f}, "
      "\"device_weights_mb\": {:.1f}}}\n",
      spec.weights, compute == at::kBFloat16 ? "bf16" : "f32", adapter.kind,
      static_cast<double>(rows * length) / median(seconds), static_cast<double>(usage.ru_maxrss) / 1024,
      first, loss, steps > 0 ? (disk_bytes() - read_before) / 1e6 / static_cast<double>(steps) : 0.0,
      static_cast<double>(device_room().held) / 1e6);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
