#include "models/experts.h"

namespace retort {

double token_share(const ModelConfig& config, const TensorPlace& place) {
  return config.experts > 0 && place.expert >= 0
             ? static_cast<double>(config.experts_per_token) / static_cast<double>(config.experts)
             : 1;
}

SparseMlp::SparseMlp(const Parts& parts, int64_t layer) {
  const auto& config = parts.config;
  rule.experts_per_token = config.experts_per_token, rule.renormalise = config.renormalise;
  if (config.grouped) {
    const auto& grouped = *config.grouped;
    rule.sigmoid = grouped.sigmoid;
    rule.groups = grouped.groups, rule.groups_per_token = grouped.groups_per_token;
    rule.judged_by = grouped.judged_by, rule.scale = static_cast<float>(grouped.scale);
    if (rule.sigmoid) rule.bias = parts.vector({layer, Role::router_bias}, config.experts);
  }
  gate = parts.router(layer);
  for (int64_t e = 0; e < config.experts; ++e)
    experts.push_back({parts.linear({layer, Role::gate, e}, config.expert_intermediate, config.hidden),
                       parts.linear({layer, Role::up, e}, config.expert_intermediate, config.hidden),
                       parts.linear({layer, Role::down, e}, config.hidden, config.expert_intermediate)});
  if (config.shared_experts > 0)
    shared_experts.emplace(parts, layer, Activation::silu, config.shared_experts * config.expert_intermediate,
                           GatedRoles{Role::shared_gate, Role::shared_up, Role::shared_down});
}

Routing SparseMlp::routing(const Tensor& x, const Pass& pass) const {
  return route(linear(x.to(at::kFloat), gate, pass), rule);  // K of X experts a token
}

// n tokens of one expert
Tensor SparseMlp::forward_expert(const ExpertRows& part, const Pass& pass, Wanted wanted) const {
  const auto& [gate_proj, up_proj, down_proj] = experts[static_cast<size_t>(part.expert)];
  const auto gate_up = linear_group(part.x, {&gate_proj, &up_proj}, pass);  // two of [n,F]
  // The weight goes in front of the last layer, which is linear: its gradient needs no output of that layer.
  return linear(weighted_gated(gate_up[0], gate_up[1], part.weights, Activation::silu), down_proj, pass,
                wanted);
}

std::vector<const Linear*> SparseMlp::linears_of(int64_t expert) const {
  const auto& [gate_proj, up_proj, down_proj] = experts[static_cast<size_t>(expert)];
  return {&gate_proj, &up_proj, &down_proj};
}

Tensor SparseMlp::join(const Tensor& routed, const Tensor& x, const Pass& pass, Wanted wanted) const {
  return shared_experts ? routed + shared_experts->forward(x, pass, wanted) : routed;
}

Tensor SparseMlp::forward(const Tensor& x, const Pass& pass, Wanted wanted) const {  // x [N,E]
  if (x.size(0) == 0) return x;
  const auto routed = routing(x, pass);
  std::vector<Tensor> results;
  for (const auto& part : rows_by_expert(x, routed)) results.push_back(forward_expert(part, pass, wanted));
  return join(combine(results, routed), x, pass, wanted);  // [N,E]
}

FeedForward::FeedForward(const Parts& parts, int64_t layer) {
  if (parts.config.has_experts(layer)) sparse.emplace(parts, layer);
  else dense.emplace(parts, layer, Activation::silu);
}

Tensor FeedForward::forward(const Tensor& x, const Pass& pass, Wanted wanted) const {
  return sparse ? sparse->forward(x, pass, wanted) : dense->forward(x, pass, wanted);
}

}  // namespace retort
