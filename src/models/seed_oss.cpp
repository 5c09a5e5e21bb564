// Seed-OSS (github.com/ByteDance-Seed/seed-oss): Llama's layer with biases on q, k and v.
#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.attention_bias = config.truth("attention_bias", true);
  model.output_bias = config.truth("attention_out_bias", false);
  model.mlp_bias = config.truth("mlp_bias", false);
  model.rope = read_rope(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias;
  json["attention_out_bias"] = config.output_bias;
  json["mlp_bias"] = config.mlp_bias;
  return json;
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.scaling(); }

std::string refusal(const ModelConfig& config) {
  return config.mlp_bias ? "llama.cpp reads no biases of feed-forward layers in its architecture seed_oss"
                         : "";
}

constexpr RoleName kNames[] = {
    {Role::mlp_norm, "", "post_attention_layernorm", "post_attention_norm"},
};

}  // namespace

const Family kSeedOss = {
    .name = "seed_oss",
    .model_type = "seed_oss",
    .hf_architecture = "SeedOssForCausalLM",
    .gguf = "seed_oss",
    .defaults = {.kv_heads = 8, .head_dim = 128, .context = 524288, .bos = 0, .eos = 2, .pad = 1},
    .names = kNames,
    .from_hf = from_hf,
    .to_hf = to_hf,
    .to_gguf = to_gguf,
    .gguf_refusal = refusal,
    .build = build_llama};

}  // namespace retort
