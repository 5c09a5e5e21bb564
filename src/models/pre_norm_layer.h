// The layer of Llama (arXiv:2302.13971) and of those that change a part of it: a norm in front of attention
// and of the feed-forward part `Mlp`, each added to what entered it.
#pragma once
#include "models/layers.h"

namespace retort {

template <class Mlp> struct PreNormLayer {
  Norm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  Mlp mlp;

  PreNormLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary, Mlp feed_forward)
      : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden)),
        post_attention_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)),
        mlp(std::move(feed_forward)) {}

  // RMSNorm over each head of q and k before the rotation (Qwen 3, arXiv:2505.09388).
  void norm_heads(const Parts& parts, int64_t index) {
    self_attn.q_norm = parts.norm({index, Role::q_norm}, parts.config.head_dim);
    self_attn.k_norm = parts.norm({index, Role::k_norm}, parts.config.head_dim);
  }

  Model::Halfway attend(const Tensor& x, const Pass& pass) const {
    auto [h, normed] = add_rms_norm(keep_rows(x, pass), self_attn.forward(rms_norm(x, input_layernorm), pass),
                                    post_attention_layernorm);
    return {std::move(h), std::move(normed)};
  }
  const SparseMlp* experts() const requires(
      requires { mlp.experts; } || requires { mlp.sparse; }) {
    if constexpr (requires { mlp.sparse; }) return mlp.sparse ? &*mlp.sparse : nullptr;
    else return &mlp;
  }
  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto [h, normed] = attend(x, pass);
    return h + mlp.forward(normed, pass, pass.layer_result);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(input_layernorm);
    if (self_attn.q_norm) visit(*self_attn.q_norm);
    if (self_attn.k_norm) visit(*self_attn.k_norm);
    visit(post_attention_layernorm);
  }
  template <class Visit> void vectors(Visit&& visit) requires requires { mlp.vectors(visit); }
  { mlp.vectors(visit); }
  Linear& router() requires requires { mlp.gate; }
  { return mlp.gate; }
};

}  // namespace retort
