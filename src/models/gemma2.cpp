// Gemma 2 (arXiv:2408.00118): four norms a layer with weights stored as w - 1, GELU, soft caps, every other
// layer local.
#include "models/families.h"

namespace retort {
namespace {

struct Gemma2Layer {
  Norm input_layernorm, post_attention_layernorm, pre_feedforward_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  Gemma2Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm(layer_name(index) + ".input_layernorm", parts.config.hidden, 1)),
        post_attention_layernorm(
            parts.norm(layer_name(index) + ".post_attention_layernorm", parts.config.hidden, 1)),
        pre_feedforward_layernorm(
            parts.norm(layer_name(index) + ".pre_feedforward_layernorm", parts.config.hidden, 1)),
        post_feedforward_layernorm(
            parts.norm(layer_name(index) + ".post_feedforward_layernorm", parts.config.hidden, 1)),
        self_attn(parts, index, std::move(rotary)),
        mlp(parts, index, Activation::gelu_tanh) {}

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto attended =
        rms_norm(self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attended, pre_feedforward_layernorm);
    return h + rms_norm(mlp.forward(normed, pass), post_feedforward_layernorm);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit("input_layernorm", input_layernorm);
    visit("post_attention_layernorm", post_attention_layernorm);
    visit("pre_feedforward_layernorm", pre_feedforward_layernorm);
    visit("post_feedforward_layernorm", post_feedforward_layernorm);
  }
};

}  // namespace

std::unique_ptr<Model> build_gemma2(const Parts& parts) { return stack_of<Gemma2Layer>(parts, 1); }

}  // namespace retort
