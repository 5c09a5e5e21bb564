#include <cmath>
#include <mutex>

#include "base/stop.h"
#include "distill/prune.h"
#include "ops/workers.h"

namespace retort {
namespace {

// Mean over the rows of |x|, per column, in fp64.
Tensor column_means(const Tensor& x) { return x.to(at::kFloat).abs().mean(0).to(at::kDouble); }

struct Sums {
  std::vector<double> layers;
  std::vector<Tensor> intermediate, kv_heads;   // squares, summed over forests
  Tensor hidden;
};

std::vector<double> roots(const Tensor& squares) {
  const auto values = squares.sqrt().contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace

Importance measure_importance(LoadedModel& source, at::ScalarType compute, const std::vector<Sample>& samples, int64_t threads) {
  auto& model = *source.model;
  const auto& config = model.config;
  const auto count = static_cast<size_t>(config.layers);
  const auto forests = build_forests(samples, 512);
  std::vector<Sums> parts(forests.size());
  run_workers(usable_threads(threads), static_cast<int64_t>(forests.size()), [&](int64_t f) {
    leave_if_stopped("measuring activations");
    auto& sums = parts[static_cast<size_t>(f)];
    sums.layers.resize(count);
    sums.intermediate.resize(count), sums.kv_heads.resize(count);
    sums.hidden = at::zeros({config.hidden}, at::TensorOptions(at::kDouble));
    auto pass = make_pass(forests[static_cast<size_t>(f)], compute);
    size_t at = 0;
    pass.observe = [&](const Linear& linear, const Tensor& x) {
      if (linear.name.ends_with("down_proj")) sums.intermediate[at] = column_means(x).square();
      if (linear.name.ends_with("q_proj") || linear.name.ends_with("gate_proj") || linear.name.ends_with("qkv_proj") || linear.name.ends_with("gate_up_proj"))
        sums.hidden += column_means(x).square();
      if (linear.name.ends_with("o_proj")) {   // [N, heads * D]: the norm of each head's output, summed over a group
        const auto norms = x.to(at::kFloat).view({x.size(0), config.heads, -1}).norm(2, -1).mean(0).to(at::kDouble);
        sums.kv_heads[at] = norms.view({config.kv_heads, -1}).sum(-1).square();
      }
    };
    auto x = model.embed(pass);
    for (; at < count; ++at) {
      const auto y = model.layer(static_cast<int64_t>(at), x, pass);
      sums.layers[at] = 1 - at::cosine_similarity(x.to(at::kFloat), y.to(at::kFloat), 1).mean().item<double>();
      x = y;
    }
  });
  Importance result;
  result.layers.resize(count);
  auto hidden = at::zeros({config.hidden}, at::TensorOptions(at::kDouble));
  for (size_t layer = 0; layer < count; ++layer) {
    Tensor intermediate, heads;
    for (const auto& part : parts) {   // in forest order
      result.layers[layer] += part.layers[layer] / static_cast<double>(parts.size());
      intermediate = intermediate.defined() ? intermediate + part.intermediate[layer] : part.intermediate[layer];
      heads = heads.defined() ? heads + part.kv_heads[layer] : part.kv_heads[layer];
    }
    result.intermediate.push_back(roots(intermediate));
    result.kv_heads.push_back(roots(heads));
  }
  for (const auto& part : parts) hidden += part.hidden;
  result.hidden = roots(hidden);
  return result;
}

}  // namespace retort
