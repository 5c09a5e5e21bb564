// ModelConfig from GGUF metadata: what is alike in every family, and what families call for the rest. Key
// names and defaults: llama.cpp's llama-arch.cpp and llama-model.cpp.
#include "models/gguf_config.h"
#include "models/read_config.h"
#include "text/tokenizer.h"

namespace retort {
namespace {

std::vector<double> small_vector(const WeightFile& file, const char* name) {
  const auto* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  if (values.size() > 65536 || type_info(tensor->type).block_elements != 1)
    corrupt(file.path.string(), name, "expected a short dense vector");
  dequantize_rows(tensor->type, tensor->data.data(), values.data(), 1, tensor->elements());
  return {values.begin(), values.end()};
}

RopeConfig rope_of(const GgufMetadata& data, const WeightFile& file) {
  RopeConfig rope;
  rope.theta = data.number(".rope.freq_base").value_or(10000);
  const auto kind = data.text(".rope.scaling.type").value_or("none");
  rope.factor = data.number(".rope.scaling.factor").value_or(1);
  rope.original_context = data.whole(".rope.scaling.original_context_length").value_or(0);
  if (kind == "linear" || (kind == "none" && rope.factor > 1)) rope.scaling = RopeScaling::linear;
  else if (kind == "yarn") rope.scaling = RopeScaling::yarn;
  else if (kind == "longrope") rope.scaling = RopeScaling::longrope;
  else if (kind != "none")
    data.fail(".rope.scaling.type",
              "unknown kind '" + printable(kind) + "'; known: none, linear, yarn, longrope");
  rope.attention_factor = data.number(".rope.scaling.attn_factor").value_or(0);
  rope.frequency_divisors = small_vector(file, "rope_freqs.weight");
  rope.long_factor = small_vector(file, "rope_factors_long.weight");
  rope.short_factor = small_vector(file, "rope_factors_short.weight");
  if (!rope.long_factor.empty()) rope.scaling = RopeScaling::longrope;
  if (rope.scaling == RopeScaling::yarn) {  // llama.cpp multiplies attn_factor with the paper's 0.1 ln(s) + 1
    if (rope.attention_factor > 0) rope.attention_factor *= 0.1 * std::log(rope.factor) + 1;
    rope.beta_fast = data.number(".rope.scaling.yarn_beta_fast").value_or(32);
    rope.beta_slow = data.number(".rope.scaling.yarn_beta_slow").value_or(1);
  }
  return rope;
}

const Family& family_in(const WeightFile& file) {
  const GgufMetadata general(file);
  const auto architecture = general.text("general.architecture").value_or("");
  const GgufMetadata data(file, architecture + ".");
  const Family* rest = nullptr;
  for (const auto& row : families()) {
    if (architecture != row.gguf) continue;
    if (!row.owns_gguf) rest = &row;
    else if (row.owns_gguf(data)) return row;
  }
  if (!rest)
    general.fail("general.architecture", fmt::format("'{}' is not a known architecture; known families: {}",
                                                     printable(architecture), known_families()));
  return *rest;
}

// Of heads that have keys and values of their own.
void read_gguf_heads(const GgufMetadata& data, const Family& family, ModelConfig& config) {
  config.kv_heads = data.whole(".attention.head_count_kv").value_or(config.heads);
  config.head_dim = data.whole(".attention.key_length").value_or(config.hidden / config.heads);
  if (config.kv_heads == 0 || config.heads % config.kv_heads != 0)
    data.fail(".attention.head_count_kv", "does not divide the number of heads");
  if (config.head_dim == 0 || config.head_dim % 2 != 0)
    data.fail(".attention.key_length", "expected an even head width");
  const auto rotated = data.whole(".rope.dimension_count").value_or(config.head_dim);
  if (rotated != config.head_dim && !family.partial_rotation)
    data.fail(".rope.dimension_count",
              fmt::format("a {} rotates whole heads; expected {}", family.name, config.head_dim));
  if (rotated == 0 || rotated > config.head_dim || rotated % 2 != 0)
    data.fail(".rope.dimension_count", fmt::format("expected an even number from 2 to {}", config.head_dim));
  config.rope.partial = static_cast<double>(rotated) / static_cast<double>(config.head_dim);
}

}  // namespace

void read_gguf_experts(const GgufMetadata& data, ModelConfig& config) {
  const auto experts = data.whole(".expert_count").value_or(0);
  if (experts == 0) data.fail(".expert_count", "missing or 0; expected the number of experts");
  config.experts = experts;
  config.experts_per_token = data.required(".expert_used_count");
  config.expert_intermediate = data.whole(".expert_feed_forward_length").value_or(config.intermediate);
  if (config.experts_per_token > experts)
    data.fail(".expert_used_count", fmt::format("is {}, of {} experts", config.experts_per_token, experts));
  if (experts > kMostExperts) data.fail(".expert_count", fmt::format("more than {} experts", kMostExperts));
  if (config.expert_intermediate == 0) data.fail(".expert_feed_forward_length", "is 0");
}

void read_gguf_window_list(const GgufMetadata& data, ModelConfig& config) {
  constexpr auto kPattern = ".attention.sliding_window_pattern";
  if (!data.is_list(kPattern)) return;
  config.sliding_layers = data.list<bool>(kPattern);
  if (static_cast<int64_t>(config.sliding_layers.size()) != config.layers)
    data.fail(kPattern, fmt::format("{} entries for {} layers", config.sliding_layers.size(), config.layers));
}

ModelConfig config_from_gguf(const WeightFile& file) {
  const auto& family = family_in(file);
  const GgufMetadata data(file, std::string(family.gguf) + ".");
  ModelConfig config;
  config.family = family.name;
  config.hf_architecture = family.hf_architecture;
  config.layers = data.required(".block_count");
  config.hidden = data.required(".embedding_length");
  config.heads = data.required(".attention.head_count");
  config.intermediate = data.required(".feed_forward_length");
  config.context = data.required(".context_length");
  config.norm_epsilon = data.number(".attention.layer_norm_rms_epsilon").value_or(1e-5);
  config.rope = rope_of(data, file);
  if (config.rope.original_context == 0 && config.rope.scaling == RopeScaling::yarn)
    config.rope.original_context = config.context;  // as llama.cpp
  if (config.layers > 1000) data.fail(".block_count", "more than 1000 layers");
  // Heads of latent attention have no keys of their own; its families read their widths.
  constexpr auto kLatent = ".attention.kv_lora_rank";
  const bool latent = data.whole(kLatent).has_value();
  if (!latent) read_gguf_heads(data, family, config);

  const auto* tokens = file.find("token_embd.weight");
  if (!tokens || tokens->shape.size() != 2)
    corrupt(file.path.string(), "token_embd.weight", "missing or not a matrix");
  config.vocabulary = tokens->shape[0];
  config.tied_head = file.find("output.weight") == nullptr;
  config.attention_bias = file.find("blk.0.attn_q.bias") != nullptr;
  config.output_bias = file.find("blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = file.find("blk.0.ffn_down.bias") != nullptr;
  config.sliding_window = data.whole(".attention.sliding_window").value_or(0);
  config.attention_scale = data.number(".attention.scale").value_or(0);
  read_gguf_window_list(data, config);
  if (family.from_gguf) family.from_gguf(data, config);
  if (latent && !config.latent) data.fail(kLatent, "latent attention is not known of this architecture");
  if (config.experts == 0 && data.whole(".expert_count").value_or(0) > 0)
    data.fail(".expert_count", "models with experts are not read in this architecture");
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    const auto value = data.whole(std::string("tokenizer.ggml.") + key);
    return value && *value < config.vocabulary ? std::optional(static_cast<int32_t>(*value)) : std::nullopt;
  };
  config.bos = id("bos_token_id");
  config.pad = id("padding_token_id");
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (const auto end = id(key);
        end && std::find(config.eos.begin(), config.eos.end(), *end) == config.eos.end())
      config.eos.push_back(*end);
  return config;
}

GgufVocabulary vocabulary_of(const WeightFile& file) {
  const GgufMetadata data(file);
  const std::string prefix = "tokenizer.ggml.";
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    const auto value = data.whole(prefix + key);
    return value && *value <= INT32_MAX ? std::optional(static_cast<int32_t>(*value)) : std::nullopt;
  };
  GgufVocabulary vocabulary;
  vocabulary.model = data.text(prefix + "model").value_or("");
  vocabulary.pre = data.text(prefix + "pre").value_or("");
  vocabulary.tokens = data.list<std::string>(prefix + "tokens");
  vocabulary.token_types = data.list<int32_t>(prefix + "token_type");
  vocabulary.merges = data.list<std::string>(prefix + "merges");
  vocabulary.scores = data.list<float>(prefix + "scores");
  vocabulary.bos = id("bos_token_id");
  vocabulary.eos = id("eos_token_id");
  vocabulary.pad = id("padding_token_id");
  vocabulary.unknown = id("unknown_token_id");
  vocabulary.add_bos = data.truth(prefix + "add_bos_token");
  vocabulary.add_eos = data.truth(prefix + "add_eos_token");
  vocabulary.add_space_prefix = data.truth(prefix + "add_space_prefix");
  return vocabulary;
}

}  // namespace retort
