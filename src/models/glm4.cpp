// GLM-4 of 2025 (`glm4`, arXiv:2406.12793 and github.com/zai-org/GLM-4): four norms a layer, in front of both
// parts and behind them; a part of each head is rotated, its pairs next to each other; gate and up fused.
#include <algorithm>

#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

struct Glm4Layer {
  Norm input_layernorm, post_self_attn_layernorm, post_attention_layernorm, post_mlp_layernorm;
  Attention self_attn;
  FusedMlp mlp;

  Glm4Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden)),
        post_self_attn_layernorm(parts.norm({index, Role::after_attention_norm}, parts.config.hidden)),
        post_attention_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden)),
        post_mlp_layernorm(parts.norm({index, Role::after_mlp_norm}, parts.config.hidden)),
        self_attn(parts, index, std::move(rotary)),
        mlp(parts, index) {
    self_attn.rotated.interleaved = true;
  }

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto attended =
        rms_norm(self_attn.forward(rms_norm(x, input_layernorm), pass), post_self_attn_layernorm);
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attended, post_attention_layernorm);
    return h + rms_norm(mlp.forward(normed, pass), post_mlp_layernorm);
  }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(input_layernorm);
    visit(post_self_attn_layernorm);
    visit(post_attention_layernorm);
    visit(post_mlp_layernorm);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Glm4Layer>(parts, 0); }

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.attention_bias = config.truth("attention_bias", true);  // of q, k and v alone
  model.rope = read_rope(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias;
  // Without the key transformers rotates half of a head.
  json["partial_rotary_factor"] = json["rope_parameters"]["partial_rotary_factor"] = config.rope.partial;
  return json;
}

// GLM-OCR has the same architecture, with places in three dimensions and rows in another order.
void from_gguf(const GgufMetadata& data, ModelConfig&) {
  constexpr auto kSections = ".rope.dimension_sections";
  const auto sections = data.list<int64_t>(kSections);
  if (std::ranges::any_of(sections, [](int64_t section) { return section > 0; }))
    data.fail(kSections, "places in several dimensions are not read; expected a language model alone");
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.scaling(); }

constexpr RoleName kNames[] = {
    {Role::after_attention_norm, "", "post_self_attn_layernorm", "post_attention_norm"},
    {Role::after_mlp_norm, "", "post_mlp_layernorm", "post_ffw_norm"},
};
constexpr int32_t kEnds[] = {151329, 151336, 151338};

}  // namespace

const Family kGlm4 = {.name = "glm4",
                      .model_type = "glm4",
                      .hf_architecture = "Glm4ForCausalLM",
                      .gguf = "glm4",
                      .defaults = {.kv_heads = 2,
                                   .head_dim = 128,
                                   .context = 131072,
                                   .norm_epsilon = 1.5625e-7,
                                   .pad = 151329,
                                   .more_eos = kEnds,
                                   .partial_rotation = 0.5},
                      .fused_projections = true,
                      .partial_rotation = true,
                      .names = kNames,
                      .from_hf = from_hf,
                      .to_hf = to_hf,
                      .from_gguf = from_gguf,
                      .to_gguf = to_gguf,
                      .build = build};

}  // namespace retort
