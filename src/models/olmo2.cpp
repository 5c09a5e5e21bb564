// OLMo 2 (arXiv:2501.00656) and Olmo 3 (allenai.org/olmo3): norms behind attention and feed-forward part
// instead of in front of them, and over all heads of q and of k at once. Olmo 3 sees a window in three of
// four layers, which the scaling of the rotation leaves alone.
#include <algorithm>

#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/rotary.h"

namespace retort {
namespace {

struct OlmoLayer {
  Norm post_attention_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  GatedMlp mlp;

  OlmoLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : post_attention_layernorm(parts.norm({index, Role::after_attention_norm}, parts.config.hidden)),
        post_feedforward_layernorm(parts.norm({index, Role::after_mlp_norm}, parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)),
        mlp(parts, index, Activation::silu) {
    const auto& config = parts.config;
    self_attn.norms_span_heads = true;
    self_attn.q_norm = parts.norm({index, Role::q_norm}, config.heads * config.head_dim);
    self_attn.k_norm = parts.norm({index, Role::k_norm}, config.kv_heads * config.head_dim);
  }

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto h = keep_rows(x, pass) + rms_norm(self_attn.forward(x, pass), post_attention_layernorm);
    return h + rms_norm(mlp.forward(h, pass), post_feedforward_layernorm);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(*self_attn.q_norm);
    visit(*self_attn.k_norm);
    visit(post_attention_layernorm);
    visit(post_feedforward_layernorm);
  }
};

bool slides(const ModelConfig& config, int64_t layer) {
  return config.sliding_window > 0 &&
         (config.sliding_layers.empty() || config.sliding_layers.at(static_cast<size_t>(layer)));
}

std::unique_ptr<Model> build(const Parts& parts) {
  const auto& config = parts.config;
  const auto global = make_rotary(config);
  const auto local =
      std::make_shared<Rotary>(config.local_rope.value_or(config.rope), config.head_dim, config.context);
  return std::make_unique<Stack<OlmoLayer>>(
      parts, 0, [&](int64_t i) { return OlmoLayer(parts, i, slides(config, i) ? local : global); });
}

constexpr int64_t kPeriod = 4;
bool slides_by_habit(int64_t layer) { return (layer + 1) % kPeriod != 0; }

// The rotation of layers with a window: the base alone.
RopeConfig unscaled(const RopeConfig& rope) {
  RopeConfig local;
  local.theta = rope.theta;
  return local;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  model.rope = read_rope(config, model);
}

void from_hf_3(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  const double theta = config.number("rope_theta").value_or(family_of(model).defaults.theta);
  const auto parameters = config.section("rope_parameters");
  const auto full = parameters ? parameters->section("full_attention") : std::nullopt;
  const auto sliding = parameters ? parameters->section("sliding_attention") : std::nullopt;
  model.rope = full ? read_rope_section(*full, theta, config, model) : read_rope(config, model);
  model.local_rope = sliding ? read_rope_section(*sliding, theta, config, model) : unscaled(model.rope);
  read_windows(config, model, read_window(config, model), slides_by_habit);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias || config.output_bias;
  return json;
}

OrderedJson to_hf_3(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  json["rope_parameters"] = {
      {"full_attention", rope_json(with_llama3_parameters(config))},
      {"sliding_attention", rope_json(config.local_rope.value_or(unscaled(config.rope)))}};
  json["attention_bias"] = config.attention_bias || config.output_bias;
  add_hf_windows(config, true, json);
  if (config.sliding_layers.empty()) {  // without the list, transformers takes its own habit
    auto types = OrderedJson::array();
    for (int64_t i = 0; i < config.layers; ++i)
      types.push_back(slides(config, i) ? "sliding_attention" : "full_attention");
    json["layer_types"] = types;
  }
  return json;
}

// Both are llama.cpp's olmo2; the window tells.
bool owns_gguf(const GgufMetadata& data) { return data.whole(".attention.sliding_window").value_or(0) > 0; }

void from_gguf_3(const GgufMetadata&, ModelConfig& config) {
  config.local_rope = unscaled(config.rope);
  for (int64_t i = 0; i < config.layers && config.sliding_layers.size() < static_cast<size_t>(config.layers);
       ++i)
    config.sliding_layers.push_back(slides_by_habit(i));
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.scaling(); }

void to_gguf_3(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.windows(false), keys.scaling(); }

std::string refusal(const ModelConfig& config) {
  return config.tied_head
             ? "llama.cpp wants a head of its own in its architecture olmo2; this one is the embedding"
             : "";
}

std::string refusal_3(const ModelConfig& config) {
  if (const auto reason = refusal(config); !reason.empty()) return reason;
  if (config.local_rope && (config.local_rope->scales() || config.local_rope->theta != config.rope.theta))
    return "GGUF has no key for another rotation in the layers with a window";
  for (int64_t i = 0; config.sliding_window > 0 && i < config.layers; ++i)
    if (slides(config, i) != slides_by_habit(i))
      return "llama.cpp gives a window to three of four layers of an olmo2, and this model to others";
  return "";
}

// Two norms a layer, behind its parts.
constexpr RoleName kNames[] = {
    {Role::after_attention_norm, "", "post_attention_layernorm", "post_attention_norm"},
    {Role::after_mlp_norm, "", "post_feedforward_layernorm", "post_ffw_norm"},
};

}  // namespace

const Family kOlmo2 = {.name = "olmo2",
                       .model_type = "olmo2",
                       .hf_architecture = "Olmo2ForCausalLM",
                       .gguf = "olmo2",
                       .defaults = {.context = 2048, .norm_epsilon = 1e-5, .eos = 50279, .pad = 1},
                       .names = kNames,
                       .gguf_head_dim = false,
                       .from_hf = from_hf,
                       .to_hf = to_hf,
                       .to_gguf = to_gguf,
                       .gguf_refusal = refusal,
                       .build = build};

const Family kOlmo3 = {.name = "olmo3",
                       .model_type = "olmo3",
                       .hf_architecture = "Olmo3ForCausalLM",
                       .gguf = "olmo2",
                       .defaults = {.context = 2048,
                                    .sliding_window = 4096,
                                    .norm_epsilon = 1e-5,
                                    .theta = 500000,
                                    .eos = 50279,
                                    .pad = 1},
                       .names = kNames,
                       .gguf_head_dim = false,
                       .gguf_windows = true,
                       .from_hf = from_hf_3,
                       .to_hf = to_hf_3,
                       .owns_gguf = owns_gguf,
                       .from_gguf = from_gguf_3,
                       .to_gguf = to_gguf_3,
                       .gguf_refusal = refusal_3,
                       .build = build};

}  // namespace retort
