// The sparse feed-forward part of a layer: a router and many small gated networks, a few of which see a token
// (arXiv:2401.04088).
#pragma once
#include "models/layers.h"
#include "ops/route.h"

namespace retort {

// The share of a text's tokens that go through a linear layer, where experts are used alike.
double token_share(const ModelConfig& config, const TensorPlace& place);

struct SparseMlp {
  struct Expert {
    Linear gate_proj, up_proj, down_proj;
  };
  Linear gate;                  // the router [X,E]
  std::vector<Expert> experts;  // X of width F
  std::optional<GatedMlp> shared_experts;
  RouteRule rule;

  SparseMlp(const Parts& parts, int64_t layer);
  Tensor forward(const Tensor& x, const Pass& pass, Wanted wanted = Wanted::value) const;  // [N,E] -> [N,E]
  Routing routing(const Tensor& x, const Pass& pass) const;
  Tensor forward_expert(const ExpertRows& part, const Pass& pass,
                        Wanted wanted = Wanted::value) const;  // [n,E] -> [n,E], weighted
  // What the chosen experts came to [N,E], and with it what those say that see every token.
  Tensor join(const Tensor& routed, const Tensor& x, const Pass& pass, Wanted wanted = Wanted::value) const;
  std::vector<const Linear*> linears_of(int64_t expert) const;
  template <class Visit> void linears(Visit&& visit) {
    for (auto& expert : experts) visit(expert.gate_proj), visit(expert.up_proj), visit(expert.down_proj);
    if (shared_experts) shared_experts->linears(visit);
  }
};

// The feed-forward part of a layer of a model where some layers have experts and some have none.
struct FeedForward {
  std::optional<GatedMlp> dense;  // one of the two
  std::optional<SparseMlp> sparse;

  FeedForward(const Parts& parts, int64_t layer);
  Tensor forward(const Tensor& x, const Pass& pass, Wanted wanted = Wanted::value) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) {
    if (dense) dense->linears(visit);
    if (sparse) sparse->linears(visit);
  }
  // The router, and what is added to its scores.
  template <class Visit> void vectors(Visit&& visit) {
    if (!sparse) return;
    const auto& place = sparse->gate.place;
    visit(place, sparse->gate.weight.dense);
    if (sparse->rule.bias.defined()) visit(TensorPlace{place.layer, Role::router_bias}, sparse->rule.bias);
  }
};

}  // namespace retort
