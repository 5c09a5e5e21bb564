#include "models/experts.h"

#include <charconv>

namespace retort {

std::optional<ExpertName> expert_name(std::string_view linear) {
  constexpr std::string_view kExperts = ".experts.";
  const auto found = linear.find(kExperts);
  if (found == std::string_view::npos) return std::nullopt;
  ExpertName name{linear.substr(0, found + kExperts.size()), 0, {}};
  const auto rest = linear.substr(found + kExperts.size());
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), name.expert);
  const auto digits = static_cast<size_t>(end - rest.data());
  if (error != std::errc() || digits == rest.size() || rest[digits] != '.') return std::nullopt;
  name.matrix = rest.substr(digits + 1);
  return name;
}

std::optional<ExpertPart> expert_part(std::string_view matrix) {
  if (matrix == "gate_proj" || matrix == "w1") return ExpertPart::gate;
  if (matrix == "up_proj" || matrix == "w3") return ExpertPart::up;
  if (matrix == "down_proj" || matrix == "w2") return ExpertPart::down;
  return std::nullopt;
}

double token_share(const ModelConfig& config, std::string_view linear) {
  return config.experts > 0 && expert_name(linear)
             ? static_cast<double>(config.experts_per_token) / static_cast<double>(config.experts)
             : 1;
}

SparseMlp::SparseMlp(const Parts& parts, int64_t layer, const SparseNames& names)
    : rule{parts.config.experts_per_token, parts.config.renormalise} {
  const auto& config = parts.config;
  const auto block = layer_name(layer) + "." + names.block + ".";
  gate = parts.router(block + "gate", config.experts, config.hidden);
  for (int64_t e = 0; e < config.experts; ++e) {
    const auto name = block + "experts." + std::to_string(e) + ".";
    experts.push_back({parts.linear(name + names.gate, config.expert_intermediate, config.hidden),
                       parts.linear(name + names.up, config.expert_intermediate, config.hidden),
                       parts.linear(name + names.down, config.hidden, config.expert_intermediate)});
  }
}

Tensor SparseMlp::forward(const Tensor& x, const Pass& pass) const {  // x [N,E]
  if (x.size(0) == 0) return x;
  const auto routing = route(linear(x.to(at::kFloat), gate, pass), rule);  // K of X experts a token
  std::vector<Tensor> results;
  for (const auto& part : rows_by_expert(x, routing)) {  // n tokens of one expert
    const auto& [gate_proj, up_proj, down_proj] = experts[static_cast<size_t>(part.expert)];
    const auto gate_up = linear_group(part.x, {&gate_proj, &up_proj}, pass);  // two of [n,F]
    // The weight goes in front of the last layer, which is linear: its gradient needs no output of that
    // layer.
    results.push_back(
        linear(weighted_gated(gate_up[0], gate_up[1], part.weights, Activation::silu), down_proj, pass));
  }
  return combine(results, routing);  // [N,E]
}

}  // namespace retort
