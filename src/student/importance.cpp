#include <cmath>
#include <mutex>
#include <stdexcept>

#include "base/stop.h"
#include "ops/workers.h"
#include "student/prune.h"

namespace retort {
namespace {

// Mean over the rows of |x|, per column, in fp64.
Tensor column_means(const Tensor& x) { return x.to(at::kFloat).abs().mean(0).to(at::kDouble); }

struct Sums {
  std::vector<double> layers;
  std::vector<Tensor> intermediate, kv_heads;  // squares, summed over forests
  Tensor hidden;
  std::vector<Tensor> tokens, contribution,
      logits;  // [layer] of [expert], [expert], [expert, expert] sums of products
};

// What enters an expert's last matrix is weighted by the router already: the norm of what leaves it is the
// contribution.
void add_expert(const Linear& linear, const Tensor& x, const Pass& pass, Tensor& tokens,
                Tensor& contribution) {
  tokens[linear.place.expert] += x.size(0);
  contribution[linear.place.expert] +=
      retort::linear(x, linear, pass).to(at::kFloat).norm(2, -1).sum(at::kDouble);
}

std::vector<double> values_of(const Tensor& doubles) {
  return {doubles.const_data_ptr<double>(), doubles.const_data_ptr<double>() + doubles.numel()};
}
std::vector<double> roots(const Tensor& squares) { return values_of(squares.sqrt().contiguous()); }

}  // namespace

Importance measure_importance(LoadedModel& source, at::ScalarType compute, const std::vector<Sample>& samples,
                              int64_t threads) {
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
    const auto quiet = make_pass(forests[static_cast<size_t>(f)], compute);
    auto pass = quiet;
    const auto doubles = at::TensorOptions(at::kDouble);
    for (size_t layer = 0; config.experts > 0 && layer < count; ++layer) {
      sums.tokens.push_back(at::zeros({config.experts}, doubles));
      sums.contribution.push_back(at::zeros({config.experts}, doubles));
      sums.logits.push_back(at::zeros({config.experts, config.experts}, doubles));
    }
    size_t at = 0;
    pass.observe = [&](const Linear& linear, const Tensor& x) {
      const auto role = linear.place.role;
      if (linear.place.expert >= 0) {
        if (role == Role::down) add_expert(linear, x, quiet, sums.tokens[at], sums.contribution[at]);
        return;
      }
      switch (role) {
        case Role::router: {
          const auto logits = retort::linear(x, linear, quiet).to(at::kDouble);
          sums.logits[at] += at::mm(logits.t(), logits);
          return;
        }
        case Role::down: sums.intermediate[at] = column_means(x).square(); return;
        case Role::q:  // one of those that read the same
        case Role::qkv:
        case Role::gate:
        case Role::gate_up: sums.hidden += column_means(x).square(); return;
        case Role::k:
        case Role::v:
        case Role::up:
        case Role::q_a:  // of models that are cut in layers alone
        case Role::q_b:
        case Role::kv_a:
        case Role::kv_b:
        case Role::shared_gate:
        case Role::shared_up:
        case Role::shared_down: return;
        case Role::o: {  // [N, heads * D]: the norm of each head's output, summed over a group
          const auto norms =
              x.to(at::kFloat).view({x.size(0), config.heads, -1}).norm(2, -1).mean(0).to(at::kDouble);
          sums.kv_heads[at] = norms.view({config.kv_heads, -1}).sum(-1).square();
          return;
        }
        default:
          throw std::logic_error(linear.name + ": nobody said what enters a linear layer of this role");
      }
    };
    auto x = model.embed(pass);
    for (; at < count; ++at) {
      const auto y = model.layer(static_cast<int64_t>(at), x, pass);
      sums.layers[at] =
          1 - at::cosine_similarity(x.to(at::kFloat), y.to(at::kFloat), 1).mean().item<double>();
      x = y;
    }
  });
  Importance result;
  result.layers.resize(count);
  for (size_t layer = 0; config.experts > 0 && layer < count; ++layer) {
    auto tokens = parts[0].tokens[layer], contribution = parts[0].contribution[layer],
         logits = parts[0].logits[layer];
    for (size_t f = 1; f < parts.size(); ++f)
      tokens += parts[f].tokens[layer], contribution += parts[f].contribution[layer],
          logits += parts[f].logits[layer];
    const auto norms = logits.diagonal().sqrt().clamp_min(1e-30);
    result.experts.push_back(
        {values_of(tokens), values_of(contribution), logits / (norms.unsqueeze(0) * norms.unsqueeze(1))});
  }
  auto hidden = at::zeros({config.hidden}, at::TensorOptions(at::kDouble));
  for (size_t layer = 0; layer < count; ++layer) {
    Tensor intermediate, heads;
    for (const auto& part : parts) {  // in forest order
      result.layers[layer] += part.layers[layer] / static_cast<double>(parts.size());
      if (config.experts == 0)
        intermediate =
            intermediate.defined() ? intermediate + part.intermediate[layer] : part.intermediate[layer];
      heads = heads.defined() ? heads + part.kv_heads[layer] : part.kv_heads[layer];
    }
    if (config.experts == 0) result.intermediate.push_back(roots(intermediate));
    result.kv_heads.push_back(roots(heads));
  }
  for (const auto& part : parts) hidden += part.hidden;
  result.hidden = roots(hidden);
  return result;
}

}  // namespace retort
