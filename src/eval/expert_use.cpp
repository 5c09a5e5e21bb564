#include "eval/expert_use.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/experts.h"
#include "ops/workers.h"
#include "schedule/read.h"

namespace retort {
namespace {

// Of one layer and one text.
struct Sums {
  std::vector<int64_t> chosen;  // [experts]
  double entropy = 0;           // nats, summed over tokens
  int64_t tokens = 0;
};

double entropy_of(const Tensor& logits, bool sigmoid) {
  const auto scores = logits.to(at::kDouble);
  auto p = sigmoid ? scores.sigmoid() : scores.softmax(-1);
  if (sigmoid) p = p / p.sum(-1, true);
  return -at::xlogy(p, p).sum().item<double>();
}

Sums use_of(const SparseMlp& mlp, const Tensor& x, const Pass& quiet) {
  Sums sums;
  const auto routing = mlp.routing(x, quiet);
  for (const auto& slots : routing.plan->slots) sums.chosen.push_back(static_cast<int64_t>(slots.size()));
  sums.entropy = entropy_of(linear(x, mlp.gate, quiet), mlp.rule.sigmoid);
  sums.tokens = x.size(0);
  return sums;
}

ExpertUse summary_of(int64_t layer, const SparseMlp& mlp, const Sums& sums) {
  ExpertUse use;
  use.layer = layer;
  use.experts = static_cast<int64_t>(sums.chosen.size());
  use.each = mlp.rule.experts_per_token;
  use.tokens = sums.tokens;
  const auto choices = static_cast<double>(std::max<int64_t>(1, sums.tokens * use.each));
  const auto [least, most] = std::ranges::minmax(sums.chosen);
  use.largest = static_cast<double>(most) / choices;
  use.smallest = static_cast<double>(least) / choices;
  use.idle = std::ranges::count(sums.chosen, 0);
  use.entropy = sums.entropy / static_cast<double>(std::max<int64_t>(1, sums.tokens)) /
                std::log(static_cast<double>(std::max<int64_t>(2, use.experts)));
  if (mlp.rule.bias.defined()) {
    use.bias_from = mlp.rule.bias.min().item<double>();
    use.bias_to = mlp.rule.bias.max().item<double>();
  }
  return use;
}

}  // namespace

std::vector<ExpertUse> measure_expert_use(const Subject& subject, const std::vector<Sample>& samples) {
  const auto& model = subject.model;
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < model.config.layers; ++layer)
    if (model.experts_of(layer)) layers.push_back(layer);
  if (layers.empty()) return {};
  const auto forests = build_forests(samples, subject.row_tokens);
  std::vector<std::vector<Sums>> parts(forests.size(),
                                       std::vector<Sums>(static_cast<size_t>(model.config.layers)));
  const auto pass_of = [&](int64_t text) {
    const auto at = static_cast<size_t>(text);
    const auto quiet = make_pass(forests[at], subject.compute, subject.model.device());
    auto pass = quiet;
    pass.observe = [&model, &part = parts[at], quiet](const Linear& linear, const Tensor& x) {
      if (linear.place.role != Role::router) return;
      const auto layer = linear.place.layer;
      part[static_cast<size_t>(layer)] = use_of(*model.experts_of(layer), x, quiet);
    };
    return pass;
  };
  std::vector<int64_t> texts(forests.size());
  std::iota(texts.begin(), texts.end(), int64_t{0});
  read_texts({{model, pass_of}}, texts, usable_threads(subject.threads), "measuring the use of experts",
             [](int64_t, Read&&) {});
  std::vector<ExpertUse> uses;
  for (const auto layer : layers) {
    const auto* mlp = model.experts_of(layer);
    Sums all;
    all.chosen.resize(mlp->experts.size());
    for (const auto& part : parts) {
      const auto& sums = part[static_cast<size_t>(layer)];
      for (size_t e = 0; e < sums.chosen.size(); ++e) all.chosen[e] += sums.chosen[e];
      all.entropy += sums.entropy, all.tokens += sums.tokens;
    }
    uses.push_back(summary_of(layer, *mlp, all));
  }
  return uses;
}

}  // namespace retort
