// One LoRA training step without data, optimizer or report: forward, loss and backward of SmolLM2-135M, and
// the share of the machine's measured peak that it reaches. Prints a table; --json FILE writes the numbers.
//   tools/build release step_bench && build/release/tools/bench/step_bench [--compute f32 bf16 int8]
//   [--weights keep] [--rows 4] [--length 512] [--threads 2] [--steps 3]
// "quiet" is the rate that the threads' CPU time allows when no other process takes the cores.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <ctime>
#include <thread>

#include "adapters/attach.h"
#include "base/files.h"
#include "base/json.h"
#include "base/random.h"
#include "models/model.h"
#include "ops/gemm.h"
#include "ops/memory.h"

namespace {

using namespace retort;

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Options {
  std::string model = "checkpoints/smollm2-135m-instruct-q4_1.gguf", weights = "keep", adapter = "lora", json;
  std::vector<std::string> compute = {"f32", "bf16", "int8"};
  int64_t rows = 4, length = 512, documents = 2, threads = 2, steps = 3;
};

// Multiplications and additions of a step, by the textbook: projections forward and dX, adapters, attention
// over causal pairs, head.
double step_flop(Model& model, const Options& options, int64_t pairs) {
  const double tokens = static_cast<double>(options.rows * options.length);
  double per_token = 0;
  for (const auto* layer : model.linears()) {
    const auto weights = static_cast<double>(layer->weight.rows * layer->weight.columns);
    per_token += (layer->weight.trainable() ? 6 : 4) * weights;
    if (layer->adapter)
      per_token +=
          6.0 * static_cast<double>(layer->adapter->a.size(0) * (layer->weight.rows + layer->weight.columns));
  }
  per_token += (model.head.linear.weight.trainable() ? 6.0 : 4.0) *
               static_cast<double>(model.head.linear.weight.rows * model.config.hidden);
  const auto attention = 14.0 * static_cast<double>(pairs * model.config.layers * model.config.heads *
                                                    model.config.head_dim);  // 2 products forward, 5 backward
  return per_token * tokens + attention;
}

struct Measured {
  double wall_s = 0, cpu_s = 0, loss = 0;
};

Measured step(const Model& model, const std::vector<Forest>& forests, const std::vector<Tensor>& leaves,
              at::ScalarType compute, int64_t threads, std::vector<Tensor>& gradients) {
  std::vector<double> cpus(static_cast<size_t>(threads)), losses(forests.size());
  std::vector<std::thread> pool;
  const double begin = wall();
  for (int64_t t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      at::set_num_threads(1);
      const double start = cpu();
      for (size_t f = static_cast<size_t>(t); f < forests.size(); f += static_cast<size_t>(threads)) {
        auto pass = make_pass(forests[f], compute);
        pass.training = true;
        const auto loss = cross_entropy(model.hidden(pass), forests[f].targets, model.head, pass);
        losses[f] = loss.nats.item<double>() / loss.weight;
        auto of_forest = torch::autograd::grad({loss.nats}, leaves);
        if (f == 0) gradients = std::move(of_forest);
      }
      cpus[static_cast<size_t>(t)] = cpu() - start;
    });
  for (auto& thread : pool) thread.join();
  Measured measured{wall() - begin, 0, 0};
  for (const double c : cpus) measured.cpu_s += c / static_cast<double>(threads);
  for (const double l : losses) measured.loss += l / static_cast<double>(losses.size());
  return measured;
}

Tensor noise(int64_t count, const std::string& purpose) {
  const Draws draws(3, purpose);
  auto values = at::empty({count}, at::TensorOptions(at::kFloat));
  for (int64_t i = 0; i < count; ++i)
    values.mutable_data_ptr<float>()[i] = static_cast<float>(0.02 * draws.normal(static_cast<uint64_t>(i)));
  return values;
}

double cosine(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double product = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += (a[i] * b[i]).sum().item<double>();
    aa += a[i].square().sum().item<double>();
    bb += b[i].square().sum().item<double>();
  }
  return product / std::sqrt(aa * bb);
}

double aten_speed(at::ScalarType type) {  // one thread, a layer of this model
  const at::NoGradGuard no_graph;
  at::set_num_threads(1);
  const auto x = at::ones({1024, 576}, at::TensorOptions(type)),
             w = at::ones({1536, 576}, at::TensorOptions(type));
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const double start = cpu();
    at::linear(x, w);
    best = std::min(best, cpu() - start);
  }
  return 2e-9 * 1024 * 576 * 1536 / best;
}

int run(const Options& options) {
  keep_freed_memory();
  Json report;
  std::vector<Tensor> exact;  // gradients of the first forest in fp32, where that was asked for first
  for (const auto& speed : gemm_speeds()) {
    report["kernels"][speed.kernel->name] = {{"product_gflops", speed.product}, {"peak_gflops", speed.peak}};
    fmt::print("{:<12} one thread: {:.0f} GFLOP/s in cache, peak {:.0f}\n", speed.kernel->name, speed.product,
               speed.peak);
  }
  for (const auto& name : options.compute) {
    const auto compute = compute_type({.path = options.model, .compute = name});
    const auto loaded = load_weights({.path = options.model, .weights = options.weights, .compute = name});
    auto& model = *loaded.model;
    AdapterSpec adapter;
    adapter.kind = options.adapter;
    std::vector<Tensor> leaves;
    for (const auto& [leaf_name, tensor, place] : attach(model, adapter, 7)) leaves.push_back(*tensor);
    const Draws draws(1, "bench");
    for (auto* layer : model.linears())  // B is zero at first, and then nothing would reach A
      if (layer->adapter)
        layer->adapter->b.detach().view({-1}).copy_(noise(layer->adapter->b.numel(), layer->name));
    std::vector<Forest> forests;
    int64_t pairs = 0;
    for (int64_t r = 0, token = 0; r < options.rows; ++r) {
      if (r % options.documents == 0) forests.emplace_back();
      auto& forest = forests.back();
      std::vector<int32_t> row;
      for (int64_t i = 0; i < options.length; ++i)
        row.push_back(100 + static_cast<int32_t>(draws.bits(static_cast<uint64_t>(token++)) % 40000));
      const auto first = static_cast<int32_t>(forest.size());
      forest.add_segment(row);
      for (size_t i = 1; i < row.size(); ++i)
        forest.targets.push_back({first + static_cast<int32_t>(i) - 1, row[i], 1, 0});
    }
    for (const auto& forest : forests) pairs += attend_pairs(forest);
    const auto& kernel = gemm_kernel(compute == at::kFloat ? Operand::f32 : Operand::bf16);
    const double peak = gemm_speed(kernel).peak * static_cast<double>(options.threads);
    std::vector<Measured> steps;
    std::vector<Tensor> gradients;
    for (int64_t i = 0; i <= options.steps; ++i) {
      const auto measured = step(model, forests, leaves, compute, options.threads, gradients);
      if (i > 0) steps.push_back(measured);  // the first faults pages in
    }
    const auto best = [&](auto&& of) {
      return of(*std::min_element(steps.begin(), steps.end(),
                                  [&](const auto& a, const auto& b) { return of(a) < of(b); }));
    };
    const double wall_s = best([](const Measured&m) { return m.wall_s; }),
                 cpu_s = best([](const Measured&m) { return m.cpu_s; });
    const double flop = step_flop(model, options, pairs),
                 tokens = static_cast<double>(options.rows * options.length);
    fmt::print(
        "{} {} {}: {:.0f} tokens/s ({:.0f} quiet), {:.0f} GFLOP/s quiet = {:.1f} % of {:.0f} ({}), loss "
        "{:.4f}, ATen's product {:.0f} GFLOP/s a thread\n",
        options.weights, options.adapter, name, tokens / wall_s, tokens / cpu_s, flop / cpu_s * 1e-9,
        100 * flop / cpu_s * 1e-9 / peak, peak, kernel.name, steps.back().loss, aten_speed(compute));
    if (name == "f32") exact = gradients;
    if (!exact.empty() && name != "f32")
      fmt::print("  gradient cosine with f32: {:.5f}\n", cosine(gradients, exact)),
          report["gradient_cosine_with_f32"][name] = cosine(gradients, exact);
    report["steps"][name] = {{"weights", options.weights},
                             {"adapter", options.adapter},
                             {"rows", options.rows},
                             {"length", options.length},
                             {"threads", options.threads},
                             {"kernel", kernel.name},
                             {"tokens_per_s", tokens / wall_s},
                             {"tokens_per_s_quiet", tokens / cpu_s},
                             {"flop_per_token", flop / tokens},
                             {"gflops_quiet", flop / cpu_s * 1e-9},
                             {"peak_gflops", peak},
                             {"share_of_peak", flop / cpu_s * 1e-9 / peak},
                             {"loss", steps.back().loss}};
  }
  if (!options.json.empty()) write_text(options.json, report.dump(1) + "\n");
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  CLI::App app("One training step against the machine's peak");
  app.add_option("--model", options.model);
  app.add_option("--weights", options.weights);
  app.add_option("--adapter", options.adapter);
  app.add_option("--compute", options.compute)->expected(-1);
  app.add_option("--rows", options.rows, "documents of a step");
  app.add_option("--length", options.length);
  app.add_option("--documents", options.documents, "of a forest");
  app.add_option("--threads", options.threads);
  app.add_option("--steps", options.steps);
  app.add_option("--json", options.json);
  CLI11_PARSE(app, count, arguments);
  return run(options);
}
