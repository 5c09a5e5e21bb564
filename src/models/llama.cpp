// Llama 2 and 3, SmolLM2, Mistral: arXiv:2302.13971, arXiv:2407.21783; Mistral's sliding window: arXiv:2310.06825.
#include "models/families.h"

namespace retort {
namespace {

struct LlamaLayer {
  Norm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  LlamaLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm(layer_name(index) + ".input_layernorm", parts.config.hidden)),
        post_attention_layernorm(parts.norm(layer_name(index) + ".post_attention_layernorm", parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)), mlp(parts, index, Activation::silu) {}

  Tensor forward(const Tensor& x, const Pass& pass) const {                          // [N,E]
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    return h + mlp.forward(normed, pass);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit("input_layernorm", input_layernorm);
    visit("post_attention_layernorm", post_attention_layernorm);
  }
};

}  // namespace

std::unique_ptr<Model> build_llama(const Parts& parts) {
  auto model = std::make_unique<Stack<LlamaLayer>>(parts, 0);
  const auto rotary = make_rotary(parts.config);
  for (int64_t i = 0; i < parts.config.layers; ++i) model->layers.emplace_back(parts, i, rotary);
  return model;
}

}  // namespace retort
