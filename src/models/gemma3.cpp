// Gemma 3, text (arXiv:2503.19786): Gemma 2's four norms and GELU without soft caps; norms over the heads of
// q and k; five local layers to one global, each kind with its own rotation base.
#include "models/gemma.h"

namespace retort {
namespace {

struct Gemma3Layer {
  Norm input_layernorm, post_attention_layernorm, pre_feedforward_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  Gemma3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden, 1)),
        post_attention_layernorm(parts.norm({index, Role::after_attention_norm}, parts.config.hidden, 1)),
        pre_feedforward_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden, 1)),
        post_feedforward_layernorm(parts.norm({index, Role::after_mlp_norm}, parts.config.hidden, 1)),
        self_attn(parts, index, std::move(rotary)),
        mlp(parts, index, Activation::gelu_tanh) {
    self_attn.q_norm = parts.norm({index, Role::q_norm}, parts.config.head_dim, 1);
    self_attn.k_norm = parts.norm({index, Role::k_norm}, parts.config.head_dim, 1);
  }

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto attended =
        rms_norm(self_attn.forward(rms_norm(x, input_layernorm), pass), post_attention_layernorm);
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attended, pre_feedforward_layernorm);
    return h + rms_norm(mlp.forward(normed, pass), post_feedforward_layernorm);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(input_layernorm);
    visit(*self_attn.q_norm);
    visit(*self_attn.k_norm);
    visit(post_attention_layernorm);
    visit(pre_feedforward_layernorm);
    visit(post_feedforward_layernorm);
  }
};

std::unique_ptr<Model> build(const Parts& parts) {
  const auto& config = parts.config;
  const auto global = make_rotary(config);
  const auto local =
      std::make_shared<Rotary>(config.local_rope.value_or(config.rope), config.head_dim, config.context);
  return std::make_unique<Stack<Gemma3Layer>>(parts, 1, [&](int64_t i) {
    const bool sliding = static_cast<size_t>(i) < config.sliding_layers.size() &&
                         config.sliding_layers[static_cast<size_t>(i)];
    return Gemma3Layer(parts, i, sliding ? local : global);
  });
}

constexpr int64_t kPeriod = 6, kLargestLayers = 62;

void read_ropes(const HfConfig& config, ModelConfig& model) {
  const double theta = config.number("rope_theta").value_or(kGemma3.defaults.theta);
  const double local = config.number("rope_local_base_freq").value_or(10000);
  const auto parameters = config.section("rope_parameters");
  if (parameters && parameters->section("full_attention") && parameters->section("sliding_attention")) {
    model.rope = read_rope_section(*parameters->section("full_attention"), theta, config, model);
    model.local_rope = read_rope_section(*parameters->section("sliding_attention"), local, config, model);
    return;
  }
  model.rope = read_rope(config, model);
  model.local_rope = RopeConfig{};
  model.local_rope->theta = local;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  read_ropes(config, model);
  const auto pattern = config.whole("sliding_window_pattern").value_or(kPeriod);
  read_windows(config, model, read_window(config, model), [&](int64_t i) { return (i + 1) % pattern != 0; });
  read_gemma(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  json["rope_parameters"] = {{"full_attention", rope_json(with_llama3_parameters(config))},
                             {"sliding_attention", rope_json(config.local_rope.value_or(RopeConfig{}))}};
  add_hf_windows(config, false, json);
  add_hf_gemma(config, json);
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  config.final_soft_cap = data.number(".final_logit_softcapping").value_or(0);
  config.local_rope = RopeConfig{};
  config.local_rope->theta = data.number(".rope.freq_base_swa").value_or(10000);
  read_gguf_gemma(data, kPeriod, kLargestLayers, config);
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.attention();
  add_gguf_windows(config, kPeriod, keys);
  if (config.local_rope) keys.number(".rope.freq_base_swa", config.local_rope->theta);
  add_gguf_caps(config, keys);
  keys.scaling();
}

std::string refusal(const ModelConfig& config) {
  if (config.local_rope && config.local_rope->scales())
    return "GGUF has no key for rope scaling in the layers with a window";
  if (config.attention_soft_cap > 0)
    return "llama.cpp computes no Gemma 3 with a soft cap on attention (attn_logit_softcapping)";
  return gemma_gguf_refusal(config, kLargestLayers);
}

}  // namespace

const Family kGemma3 = {.name = "gemma3",
                        .model_type = "gemma3_text",
                        .hf_architecture = "Gemma3ForCausalLM",
                        .gguf = "gemma3",
                        .activation_key = "hidden_activation",
                        .activation = "gelu_pytorch_tanh",
                        .defaults = {.vocabulary = 262208,
                                     .heads = 8,
                                     .kv_heads = 4,
                                     .head_dim = 256,
                                     .context = 131072,
                                     .sliding_window = 4096,
                                     .theta = 1e6,
                                     .tied_head = true,
                                     .query_pre_attn_scalar = 256,
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
