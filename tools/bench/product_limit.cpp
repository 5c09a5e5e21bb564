#include "product_limit.h"

#include <chrono>
#include <map>
#include <tuple>

#include "ops/workers.h"
#include "schedule/experts.h"

namespace retort {
namespace {

constexpr size_t kMatrices = 8;  // of one shape, in turns, so that weights come from memory
constexpr int kRounds = 3;

using Shape = std::tuple<int64_t, int64_t, int64_t>;  // rows, in, out
struct Products {
  double count = 0;
  std::vector<Linear> of;  // some of these layers, with their weights
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double seconds_each(const Shape& shape, const std::vector<Linear>& layers, int64_t threads,
                    at::ScalarType compute) {
  const auto [rows, in, out] = shape;
  Pass pass;
  pass.compute = compute;
  std::vector<Tensor> inputs;
  for (int64_t i = 0; i < threads; ++i) inputs.push_back(at::randn({rows, in}).to(compute));
  double best = 0;
  for (int round = 0; round <= kRounds; ++round) {
    const double began = now();
    run_workers(threads, threads, [&](int64_t i) {
      for (const auto& layer : layers) linear(inputs[static_cast<size_t>(i)], layer, pass);
    });
    const double seconds =
        (now() - began) / static_cast<double>(threads * static_cast<int64_t>(layers.size()));
    if (round == 1 || (round > 1 && seconds < best)) best = seconds;  // the first brings the weights
  }
  return best;
}

}  // namespace

double product_seconds(const Model& model, int64_t texts, int64_t length, int64_t threads,
                       at::ScalarType compute) {
  const auto tokens = texts * length;
  std::map<Shape, Products> all;
  const auto add = [&](const Linear& layer, int64_t rows, double count) {
    auto& products = all[{rows, layer.weight.columns, layer.weight.rows}];
    products.count += count;
    if (products.of.size() == kMatrices) return;
    auto held = layer;
    if (layer.source) held.weight = base_matrix(layer).weight, held.source = nullptr;
    products.of.push_back(std::move(held));
  };
  for (int64_t index = 0; index < model.config.layers; ++index) {
    for (const auto* layer : model.linears_of(index)) {
      if (layer->place.expert < 0) {
        add(*layer, length, static_cast<double>(texts));
        continue;
      }
      const auto rows = tokens * model.config.experts_per_token / model.config.experts;
      if (rows == 0) continue;
      const auto pieces = pieces_of_expert(rows);
      add(*layer, rows / pieces, static_cast<double>(pieces));
    }
  }
  add(model.head.linear, length, static_cast<double>(texts));
  const at::NoGradGuard no_graph;
  double seconds = 0;
  for (const auto& [shape, products] : all)
    seconds += products.count * seconds_each(shape, products.of, threads, compute);
  return seconds;
}

}  // namespace retort
