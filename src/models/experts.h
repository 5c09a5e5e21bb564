// The sparse feed-forward part of a layer: a router and many small gated networks, a few of which see a token
// (arXiv:2401.04088).
#pragma once
#include "models/layers.h"
#include "ops/route.h"

namespace retort {

// What a family calls its members, inside a layer: "mlp.gate" and "mlp.experts.7.gate_proj".
struct SparseNames {
  const char *block, *gate, *up, *down;
};

// A linear layer that belongs to one expert, by name: "model.layers.3.mlp.experts.7.up_proj".
struct ExpertName {
  std::string_view before;  // "model.layers.3.mlp.experts."
  int64_t expert = 0;       // 7
  std::string_view matrix;  // "up_proj"
};
std::optional<ExpertName> expert_name(std::string_view linear);  // nullopt: none of an expert's
// Where a matrix stands in its expert, whatever the family calls it.
enum class ExpertPart { gate, up, down };
std::optional<ExpertPart> expert_part(std::string_view matrix);  // "gate_proj", "w1"
// The share of a text's tokens that go through a linear layer, where experts are used alike.
double token_share(const ModelConfig& config, std::string_view linear);

struct SparseMlp {
  struct Expert {
    Linear gate_proj, up_proj, down_proj;
  };
  Linear gate;                  // the router [X,E]
  std::vector<Expert> experts;  // X of width F
  RouteRule rule;

  SparseMlp(const Parts& parts, int64_t layer, const SparseNames& names);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) {
    for (auto& expert : experts) visit(expert.gate_proj), visit(expert.up_proj), visit(expert.down_proj);
  }
};

}  // namespace retort
