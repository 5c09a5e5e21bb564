#include "student/expert_cut.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "base/error.h"

namespace retort {

// The `count` largest, in their old order; all when count is 0.
std::vector<int64_t> best(const std::vector<double>& scores, int64_t count) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  if (count == 0) return order;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

void check_experts(const PruneSpec& spec, const ModelConfig& config) {
  if (spec.chooses_experts() && config.experts == 0)
    throw RecipeError(
        fmt::format("prune.{}: this model has no experts", spec.experts > 0 ? "experts" : "keep_experts"));
  if (spec.experts > 0 && !spec.keep_experts.empty())
    throw RecipeError("prune: give experts or keep_experts, not both");
  if (spec.experts > config.experts)
    throw RecipeError(fmt::format("prune.experts: {} asked for, the model has {} in each layer", spec.experts,
                                  config.experts));
  if (spec.dropped_experts == "merge" && !spec.chooses_experts())
    throw RecipeError("prune.dropped_experts: no expert is dropped; set experts or keep_experts");
  if (config.experts > 0 && (spec.intermediate > 0 || spec.hidden > 0))
    throw RecipeError(
        "prune: a model with experts is not cut in intermediate or hidden; cut layers, experts, kv_heads or "
        "the vocabulary");
}

ExpertCut::ExpertCut(const PruneSpec& spec, const ModelConfig& config, const Importance& importance,
                     const std::vector<int64_t>& layers, const LinearsByPlace& linears)
    : experts_(config.experts), importance_(importance), linears_(linears) {
  for (const auto number : layers) {
    if (!config.has_experts(number)) continue;
    auto& layer = layers_[number];
    std::string why = "named";
    if (spec.keep_experts.empty())
      why = choose(spec, importance.experts.at(static_cast<size_t>(number)), layer);
    else layer.kept = spec.keep_experts;
    layer.merged.resize(layer.kept.size());
    if (spec.dropped_experts == "merge")
      why += assign_dropped(importance.experts.at(static_cast<size_t>(number)), layer);
    lines.push_back(fmt::format("experts {} of {} in layer {}: {}; {}", layer.kept.size(), experts_, number,
                                fmt::join(layer.kept, " "), why));
  }
  if (layers_.empty())
    throw RecipeError(fmt::format("prune.{}: none of the layers that are kept has experts",
                                  spec.experts > 0 ? "experts" : "keep_experts"));
}

std::vector<std::vector<int64_t>> ExpertCut::kept() const {
  std::vector<std::vector<int64_t>> all;
  for (const auto& [number, layer] : layers_) all.push_back(layer.kept);
  return all;
}

std::string ExpertCut::choose(const PruneSpec& spec, const Importance::Experts& measured,
                              Layer& layer) const {
  const bool by_use = spec.rank_experts == "frequency";
  const auto& scores = by_use ? measured.tokens : measured.contribution;
  layer.kept = best(scores, spec.experts);
  const auto all = std::accumulate(scores.begin(), scores.end(), 0.0);
  std::string why = by_use ? "of the most tokens, % of all:" : "of the largest contribution, % of all:";
  for (const auto expert : layer.kept)
    why += fmt::format(" {:.1f}", all > 0 ? 100 * scores[static_cast<size_t>(expert)] / all : 0.0);
  return why;
}

// Every dropped expert goes into the kept one that the router treats most alike.
std::string ExpertCut::assign_dropped(const Importance::Experts& measured, Layer& layer) const {
  std::string text;
  for (int64_t expert = 0; expert < experts_; ++expert) {
    if (std::find(layer.kept.begin(), layer.kept.end(), expert) != layer.kept.end()) continue;
    const auto alike = [&](size_t place) { return measured.alike[expert][layer.kept[place]].item<double>(); };
    size_t most = 0;
    for (size_t place = 1; place < layer.kept.size(); ++place)
      if (alike(place) > alike(most)) most = place;
    layer.merged[most].push_back(expert);
    text += fmt::format("{} {} into {} ({:.2f})", text.empty() ? "; merged, cosine of router logits:" : ",",
                        expert, layer.kept[most], alike(most));
  }
  return text;
}

ExpertMatrices ExpertCut::matrices(int64_t layer, int64_t expert) const {
  const auto of = [&](Role role) {
    return widen(base_matrix(*linears_.at({layer, role, expert})).weight, at::kFloat);
  };
  return {of(Role::gate), of(Role::up), of(Role::down)};
}

Weight ExpertCut::matrix(int64_t number, const TensorPlace& student) {
  const auto& layer = layers_.at(number);
  const auto place = static_cast<size_t>(student.expert);
  const auto kept = layer.kept.at(place);
  if (layer.merged[place].empty()) return base_matrix(*linears_.at({number, student.role, kept})).weight;
  const std::pair who{number, kept};
  if (merged_for_ != who) {
    const auto& tokens = importance_.experts.at(static_cast<size_t>(number)).tokens;
    std::vector<ExpertMatrices> group{matrices(number, kept)};
    std::vector<double> uses{tokens.at(static_cast<size_t>(kept))};
    for (const auto other : layer.merged[place])
      group.push_back(matrices(number, other)), uses.push_back(tokens.at(static_cast<size_t>(other)));
    merged_ = merge_experts(group, uses);
    merged_for_ = who;
  }
  switch (student.role) {
    case Role::gate: return dense_weight(merged_.gate);
    case Role::up: return dense_weight(merged_.up);
    case Role::down: return dense_weight(merged_.down);
    default: throw std::logic_error("an expert has a gate, an up and a down matrix, and nothing else");
  }
}

}  // namespace retort
