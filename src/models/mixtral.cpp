// Mixtral (arXiv:2401.04088): Llama's layer with eight feed-forward parts, of which two see a token.
#include "models/experts.h"
#include "models/families.h"

namespace retort {
namespace {

struct MixtralLayer {
  Norm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  SparseMlp block_sparse_moe;

  MixtralLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm(layer_name(index) + ".input_layernorm", parts.config.hidden)),
        post_attention_layernorm(parts.norm(layer_name(index) + ".post_attention_layernorm", parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)), block_sparse_moe(parts, index, {"block_sparse_moe", "w1", "w3", "w2"}) {}

  Tensor forward(const Tensor& x, const Pass& pass) const {                          // [N,E]
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    return h + block_sparse_moe.forward(normed, pass);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), block_sparse_moe.linears(visit); }
  Linear& router() { return block_sparse_moe.gate; }
  template <class Visit> void norms(Visit&& visit) {
    visit("input_layernorm", input_layernorm);
    visit("post_attention_layernorm", post_attention_layernorm);
  }
};

}  // namespace

std::unique_ptr<Model> build_mixtral(const Parts& parts) {
  auto model = std::make_unique<Stack<MixtralLayer>>(parts, 0);
  const auto rotary = make_rotary(parts.config);
  for (int64_t i = 0; i < parts.config.layers; ++i) model->layers.emplace_back(parts, i, rotary);
  return model;
}

}  // namespace retort
