// Gemma 2 (arXiv:2408.00118): four norms a layer with weights stored as w - 1, GELU, soft caps, every other
// layer local.
#include <algorithm>

#include "models/gemma.h"

namespace retort {
namespace {

struct Gemma2Layer {
  Norm input_layernorm, post_attention_layernorm, pre_feedforward_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  Gemma2Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden, 1)),
        post_attention_layernorm(parts.norm({index, Role::after_attention_norm}, parts.config.hidden, 1)),
        pre_feedforward_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden, 1)),
        post_feedforward_layernorm(parts.norm({index, Role::after_mlp_norm}, parts.config.hidden, 1)),
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
    visit(input_layernorm);
    visit(post_attention_layernorm);
    visit(pre_feedforward_layernorm);
    visit(post_feedforward_layernorm);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Gemma2Layer>(parts, 1); }

constexpr int64_t kPeriod = 2, kLargestLayers = 46;

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  model.rope = read_rope(config, model);
  read_windows(config, model, read_window(config, model), [](int64_t i) { return i % kPeriod == 0; });
  read_gemma(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, false, json);
  add_hf_gemma(config, json);
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  config.attention_soft_cap = data.number(".attn_logit_softcapping").value_or(50);
  config.final_soft_cap = data.number(".final_logit_softcapping").value_or(30);
  read_gguf_gemma(data, kPeriod, kLargestLayers, config);
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.attention();
  const auto& slides = config.sliding_layers;
  const bool none = config.sliding_window == 0 ||
                    (!slides.empty() && std::find(slides.begin(), slides.end(), true) == slides.end());
  if (none) keys.whole(".attention.sliding_window", config.context);  // without the key it is 4096
  else add_gguf_windows(config, kPeriod, keys);
  add_gguf_caps(config, keys);
  keys.scaling();
}

std::string refusal(const ModelConfig& config) {
  if (const auto reason = gemma_gguf_refusal(config, kLargestLayers); !reason.empty()) return reason;
  return config.attention_soft_cap > 0 && config.final_soft_cap > 0
             ? ""
             : "llama.cpp computes no Gemma 2 without soft caps";
}

}  // namespace

const Family kGemma2 = {.name = "gemma2",
                        .model_type = "gemma2",
                        .hf_architecture = "Gemma2ForCausalLM",
                        .gguf = "gemma2",
                        .activation_key = "hidden_activation",
                        .activation = "gelu_pytorch_tanh",
                        .defaults = {.kv_heads = 4,
                                     .head_dim = 256,
                                     .context = 8192,
                                     .sliding_window = 4096,
                                     .tied_head = true,
                                     .query_pre_attn_scalar = 256,
                                     .attention_soft_cap = 50,
                                     .final_soft_cap = 30,
                                     .bos = 2,
                                     .eos = 1,
                                     .pad = 0},
                        .names = kGemmaNames,
                        .gguf_norms_plus_one = true,
                        .gguf_windows = true,
                        .from_hf = from_hf,
                        .to_hf = to_hf,
                        .from_gguf = from_gguf,
                        .to_gguf = to_gguf,
                        .gguf_refusal = refusal,
                        .build = build};

}  // namespace retort
