// Gemma 3, text (arXiv:2503.19786): Gemma 2's four norms and GELU without soft caps; norms over the heads of
// q and k; five local layers to one global, each kind with its own rotation base.
#include "models/families.h"

namespace retort {
namespace {

struct Gemma3Layer {
  Norm input_layernorm, post_attention_layernorm, pre_feedforward_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  Gemma3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm(layer_name(index) + ".input_layernorm", parts.config.hidden, 1)),
        post_attention_layernorm(
            parts.norm(layer_name(index) + ".post_attention_layernorm", parts.config.hidden, 1)),
        pre_feedforward_layernorm(
            parts.norm(layer_name(index) + ".pre_feedforward_layernorm", parts.config.hidden, 1)),
        post_feedforward_layernorm(
            parts.norm(layer_name(index) + ".post_feedforward_layernorm", parts.config.hidden, 1)),
        self_attn(parts, index, std::move(rotary)),
        mlp(parts, index, Activation::gelu_tanh) {
    self_attn.q_norm = parts.norm(layer_name(index) + ".self_attn.q_norm", parts.config.head_dim, 1);
    self_attn.k_norm = parts.norm(layer_name(index) + ".self_attn.k_norm", parts.config.head_dim, 1);
  }

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto attended =
        rms_norm(self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attended, pre_feedforward_layernorm);
    return h + rms_norm(mlp.forward(normed, pass), post_feedforward_layernorm);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit("input_layernorm", input_layernorm);
    visit("self_attn.q_norm", *self_attn.q_norm);
    visit("self_attn.k_norm", *self_attn.k_norm);
    visit("post_attention_layernorm", post_attention_layernorm);
    visit("pre_feedforward_layernorm", pre_feedforward_layernorm);
    visit("post_feedforward_layernorm", post_feedforward_layernorm);
  }
};

}  // namespace

std::unique_ptr<Model> build_gemma3(const Parts& parts) {
  const auto& config = parts.config;
  auto model = std::make_unique<Stack<Gemma3Layer>>(parts, 1);
  const auto global = make_rotary(config);
  const auto local =
      std::make_shared<Rotary>(config.local_rope.value_or(config.rope), config.head_dim, config.context);
  for (int64_t i = 0; i < config.layers; ++i) {
    const bool sliding = static_cast<size_t>(i) < config.sliding_layers.size() &&
                         config.sliding_layers[static_cast<size_t>(i)];
    model->layers.emplace_back(parts, i, sliding ? local : global);
  }
  return model;
}

}  // namespace retort
