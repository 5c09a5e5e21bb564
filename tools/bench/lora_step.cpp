// Our side of tools/bench/lora_step: a few steps of LoRA (or full) fine-tuning on rows of random tokens, each row a text of its
// own with a loss on every token. Prints one JSON line: tokens/s of the median step after the first, peak resident memory,
// seconds from the start of the process to the end of the first step, CPU seconds per second of a step.
#include <fmt/format.h>
#include <sys/resource.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>

#include "adapters/attach.h"
#include "base/random.h"
#include "models/model.h"
#include "ops/memory.h"
#include "ops/workers.h"

namespace {

using namespace retort;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Forest random_text(int64_t row, int64_t length) {
  const Draws draws(0, "bench rows");
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(100 + static_cast<int32_t>(draws.below(static_cast<uint64_t>(row * length + i), 39900)));
  Forest forest;
  forest.add_segment(tokens);
  for (int32_t i = 0; i + 1 < length; ++i) forest.targets.push_back({i, tokens[static_cast<size_t>(i) + 1]});
  return forest;
}

struct AdamStates {
  std::vector<Tensor> weights, first, second, steps;
  explicit AdamStates(const std::vector<NamedTensor>& leaves) {
    for (const auto& leaf : leaves) {
      weights.push_back(leaf.tensor->detach());
      first.push_back(at::zeros_like(weights.back()));
      second.push_back(at::zeros_like(weights.back()));
      steps.push_back(at::zeros({}, at::kFloat));
    }
  }
  void step(const std::vector<Tensor>& gradients, double rate) {
    for (auto& count : steps) count.add_(1);
    at::_fused_adamw_(weights, gradients, first, second, {}, steps, rate, 0.9, 0.999, 0.0, 1e-8, false, false);
  }
};

}  // namespace

int main(int count, char** arguments) try {
  const double started = now();
  ModelSpec spec{.path = "checkpoints/smollm2-135m-instruct-q4_1.gguf", .weights = "bf16"};
  AdapterSpec adapter;
  int64_t rows = 4, length = 512, steps = 3, threads = 0;
  bool recompute = false;
  CLI::App app("LoRA step on random tokens");
  app.add_option("--model", spec.path);
  app.add_option("--weights", spec.weights, "how the base is held: keep, bf16, nf4 ...");
  app.add_option("--compute", spec.compute, "auto, f32, bf16");
  app.add_option("--kind", adapter.kind, "lora or full");
  app.add_option("--rank", adapter.rank);
  app.add_option("--rows", rows);
  app.add_option("--length", length);
  app.add_option("--steps", steps);
  app.add_option("--threads", threads);
  app.add_flag("--recompute", recompute);
  CLI11_PARSE(app, count, arguments);
  keep_freed_memory();

  auto loaded = load_weights(spec);
  auto& model = *loaded.model;
  const auto compute = compute_type(spec);
  const auto leaves = attach(model, adapter, 0);
  AdamStates optimizer(leaves);
  std::vector<Forest> forests;
  for (int64_t row = 0; row < rows; ++row) forests.push_back(random_text(row, length));
  const double weight = static_cast<double>(rows * (length - 1));

  std::vector<double> seconds, busy;
  double first = 0, loss = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    const double begin = now(), begin_cpu = cpu_seconds();
    std::vector<std::vector<Tensor>> gradients(forests.size());
    std::vector<double> nats(forests.size());
    run_workers(usable_threads(threads), static_cast<int64_t>(forests.size()), [&](int64_t i) {
      const at::AutoGradMode with_gradients(true);
      auto pass = make_pass(forests[static_cast<size_t>(i)], compute);
      pass.training = true;
      pass.recompute = recompute;
      const auto sum = cross_entropy(model.hidden(pass), forests[static_cast<size_t>(i)].targets, model.head, pass);
      std::vector<Tensor> wanted;
      for (const auto& leaf : leaves) wanted.push_back(*leaf.tensor);
      gradients[static_cast<size_t>(i)] = torch::autograd::grad({sum.nats}, wanted);
      nats[static_cast<size_t>(i)] = sum.nats.item<double>();
    });
    const at::NoGradGuard no_graph;
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
      for (size_t i = 1; i < gradients.size(); ++i) gradients[0][leaf].add_(gradients[i][leaf]);
      gradients[0][leaf].div_(weight);
    }
    optimizer.step(gradients[0], 1e-4);
    loss = 0;
    for (const double value : nats) loss += value / weight;
    seconds.push_back(now() - begin);
    busy.push_back((cpu_seconds() - begin_cpu) / seconds.back());
    if (step == 0) first = now() - started;
  }
  const auto median = [](std::vector<double> values) {
    if (values.size() > 1) values.erase(values.begin());   // the first step is slower
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print("{{\"weights\": \"{}\", \"compute\": \"{}\", \"kind\": \"{}\", \"tokens_per_s\": {:.1f}, \"peak_mb\": {:.0f}, \"first_step_s\": {:.2f}, \"cores_busy\": {:.2f}, \"loss\": {:.4f}}}\n",
             spec.weights, compute == at::kBFloat16 ? "bf16" : "f32", adapter.kind, static_cast<double>(rows * length) / median(seconds),
             static_cast<double>(usage.ru_maxrss) / 1024, first, median(busy), loss);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
