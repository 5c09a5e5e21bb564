// Multi-head latent attention (arXiv:2405.04434, section 2.1): queries, and keys with values, each pass
// through one narrow vector a token; a key has a part of its head and a rotated part that all heads share.
#pragma once
#include "models/indexer.h"

namespace retort {

constexpr double kLatentEpsilon = 1e-6;  // of the norms inside, whatever rms_norm_eps says

// N tokens, E hidden, H heads; widths n (a head's own part), r (the rotated part), v (values), L (the
// latent).
struct LatentAttention {
  std::optional<Linear> q_proj;              // queries in one step ...
  std::optional<Linear> q_a_proj, q_b_proj;  // ... or in two
  std::optional<Norm> q_a_layernorm;
  Linear kv_a_proj_with_mqa;  // [L + r, E]
  Norm kv_a_layernorm;
  Linear kv_b_proj;  // [H (n + v), L]
  Linear o_proj;     // [E, H v]
  std::optional<Indexer> indexer;
  LatentConfig widths;
  std::shared_ptr<const Rotary> rotary;
  AttendRule rule;
  int64_t heads = 0;
  QueryGrowth growth;

  LatentAttention(const Parts& parts, int64_t layer, std::shared_ptr<const Rotary> layer_rotary);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) {
    if (q_proj) visit(*q_proj);
    if (q_a_proj) visit(*q_a_proj), visit(*q_b_proj);
    visit(kv_a_proj_with_mqa), visit(kv_b_proj), visit(o_proj);
    if (indexer) indexer->linears(visit);
  }
  template <class Visit> void norms(Visit&& visit) {
    if (q_a_layernorm) visit(*q_a_layernorm);
    visit(kv_a_layernorm);
  }
  template <class Visit> void vectors(Visit&& visit) {
    if (indexer) indexer->vectors(visit);
  }

 private:
  // Heads' values [N, H v] of queries [N,H,n+r], of latents c [N,L] and their rotated keys [N,1,r]: made from
  // keys and values of every head, or on the latents themselves.
  Tensor plain(const Tensor& q, const Tensor& c, const Tensor& shared, const IndexChoice& choice,
               const Pass& pass) const;
  Tensor absorbed(const Tensor& q, const Tensor& c, const Tensor& shared, const IndexChoice& choice,
                  const Pass& pass) const;
  bool adapted() const;
  Tensor taught(const Tensor& result, const IndexChoice& choice, const Tensor& q, const Tensor& k,
                const Pass& pass) const;
  Tensor matrix_of_heads(const Tensor& x, const Pass& pass) const;
};

}  // namespace retort
