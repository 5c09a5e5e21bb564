// Qwen 3 with experts (arXiv:2505.09388): the layer of qwen3.cpp whose feed-forward part is sparse.
#include "models/experts.h"
#include "models/families.h"

namespace retort {
namespace {

struct Qwen3MoeLayer {
  Norm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  SparseMlp mlp;

  Qwen3MoeLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm(layer_name(index) + ".input_layernorm", parts.config.hidden)),
        post_attention_layernorm(parts.norm(layer_name(index) + ".post_attention_layernorm", parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)), mlp(parts, index, {"mlp", "gate_proj", "up_proj", "down_proj"}) {
    self_attn.q_norm = parts.norm(layer_name(index) + ".self_attn.q_norm", parts.config.head_dim);
    self_attn.k_norm = parts.norm(layer_name(index) + ".self_attn.k_norm", parts.config.head_dim);
  }

  Tensor forward(const Tensor& x, const Pass& pass) const {                          // [N,E]
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    return h + mlp.forward(normed, pass);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  Linear& router() { return mlp.gate; }
  template <class Visit> void norms(Visit&& visit) {
    visit("input_layernorm", input_layernorm);
    visit("self_attn.q_norm", *self_attn.q_norm);
    visit("self_attn.k_norm", *self_attn.k_norm);
    visit("post_attention_layernorm", post_attention_layernorm);
  }
};

}  // namespace

std::unique_ptr<Model> build_qwen3_moe(const Parts& parts) {
  auto model = std::make_unique<Stack<Qwen3MoeLayer>>(parts, 0);
  const auto rotary = make_rotary(parts.config);
  for (int64_t i = 0; i < parts.config.layers; ++i) model->layers.emplace_back(parts, i, rotary);
  return model;
}

}  // namespace retort
