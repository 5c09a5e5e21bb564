// ModelConfig as transformers' config.json and as GGUF metadata: the way back of config_hf.cpp and
// config_gguf.cpp.
#include <algorithm>
#include <cmath>

#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/latent_attention.h"
#include "models/read_config.h"
#include "models/rotary.h"

namespace retort {

// A GGUF file keeps Llama 3's scaling as divisors of the frequencies; config.json wants the parameters behind
// them.
RopeConfig with_llama3_parameters(const ModelConfig& config) {
  RopeConfig rope = config.rope;
  if (rope.frequency_divisors.empty()) return rope;
  const auto found = rope.frequency_divisors;
  for (const double factor : {8.0, 32.0}) {  // Llama 3.1 and 3.2
    RopeConfig guess;
    guess.theta = rope.theta;
    guess.partial = rope.partial;
    guess.query_beta = rope.query_beta;
    guess.scaling = RopeScaling::llama3;
    guess.factor = factor;
    guess.low_frequency_factor = 1;
    guess.high_frequency_factor = 4;
    guess.original_context = 8192;
    const auto divisors = rotary_divisors(guess, config.head_dim, config.context);
    double worst = 0;
    for (size_t i = 0; i < divisors.size() && i < found.size(); ++i)
      worst = std::max(worst, std::abs(divisors[i] / found[i] - 1));
    if (divisors.size() == found.size() && worst < 1e-4) return guess;
  }
  throw FormatError(
      "export.merged: this model's rope_freqs are not Llama 3's, and config.json cannot hold them; set "
      "export.merged: none and deploy the GGUF file");
}

OrderedJson rope_json(const RopeConfig& rope) {
  OrderedJson json = {{"rope_theta", rope.theta}, {"rope_type", "default"}};
  if (rope.partial != 1) json["partial_rotary_factor"] = rope.partial;
  if (rope.query_beta) {
    json["llama_4_scaling_beta"] = *rope.query_beta;
    json["original_max_position_embeddings"] = rope.original_context;
  }
  switch (rope.scaling) {
    case RopeScaling::none: break;
    case RopeScaling::linear: json["rope_type"] = "linear", json["factor"] = rope.factor; break;
    case RopeScaling::dynamic: json["rope_type"] = "dynamic", json["factor"] = rope.factor; break;
    case RopeScaling::llama3:
      json["rope_type"] = "llama3";
      json["factor"] = rope.factor;
      json["low_freq_factor"] = rope.low_frequency_factor;
      json["high_freq_factor"] = rope.high_frequency_factor;
      json["original_max_position_embeddings"] = rope.original_context;
      break;
    case RopeScaling::yarn:
      json["rope_type"] = "yarn";
      json["factor"] = rope.factor;
      json["beta_fast"] = rope.beta_fast;
      json["beta_slow"] = rope.beta_slow;
      if (rope.attention_factor > 0) json["attention_factor"] = rope.attention_factor;
      if (!rope.truncate) json["truncate"] = false;
      if (rope.mscale != 0) json["mscale"] = rope.mscale;
      if (rope.mscale_all_dim != 0) json["mscale_all_dim"] = rope.mscale_all_dim;
      json["original_max_position_embeddings"] = rope.original_context;
      break;
    case RopeScaling::longrope:
      json["rope_type"] = "longrope";
      json["long_factor"] = rope.long_factor;
      json["short_factor"] = rope.short_factor;
      if (rope.factor > 1) json["factor"] = rope.factor;
      if (rope.attention_factor > 0) json["attention_factor"] = rope.attention_factor;
      json["original_max_position_embeddings"] = rope.original_context;
      break;
  }
  return json;
}

OrderedJson hf_sizes(const ModelConfig& config) {
  OrderedJson json;
  json["architectures"] = {config.hf_architecture};
  json["model_type"] = family_of(config).model_type;
  json["vocab_size"] = config.vocabulary;
  json["hidden_size"] = config.hidden;
  json["intermediate_size"] = config.intermediate;
  return json;
}

void add_hf_experts(const ModelConfig& config, const char* key, OrderedJson& json) {
  json[key] = config.experts;
  json["num_experts_per_tok"] = config.experts_per_token;
}

void add_hf_shape(const ModelConfig& config, OrderedJson& json) {
  const auto& family = family_of(config);
  json["num_hidden_layers"] = config.layers;
  json["num_attention_heads"] = config.heads;
  json["num_key_value_heads"] = config.kv_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.context;
  json["rms_norm_eps"] = config.norm_epsilon;
  json[family.activation_key] = family.activation;
  json["tie_word_embeddings"] = config.tied_head;
}

void add_hf_rope(const ModelConfig& config, OrderedJson& json) {
  const auto rope = with_llama3_parameters(config);
  // Both spellings: rope_parameters is transformers 5's, rope_theta and rope_scaling are what 4 reads.
  json["rope_theta"] = rope.theta;
  if (rope.partial != 1) json["partial_rotary_factor"] = rope.partial;
  json["rope_parameters"] = rope_json(rope);
  if (rope.scaling != RopeScaling::none) {
    json["rope_scaling"] = rope_json(rope);
    json["rope_scaling"].erase("rope_theta");
  }
  if (rope.scaling == RopeScaling::longrope) json["original_max_position_embeddings"] = rope.original_context;
}

void add_hf_biases(const ModelConfig& config, OrderedJson& json) {
  json["attention_bias"] = config.attention_bias || config.output_bias;
  json["mlp_bias"] = config.mlp_bias;
}

void add_hf_windows(const ModelConfig& config, bool null_too, OrderedJson& json) {
  if (config.sliding_window > 0) json["sliding_window"] = config.sliding_window;
  else if (null_too) json["sliding_window"] = nullptr;
  if (config.sliding_window > 0 && family_of(config).defaults.max_window_layers > 0)
    json["use_sliding_window"] = true;  // Qwen
  if (config.sliding_layers.empty()) return;
  auto types = OrderedJson::array();
  for (const bool sliding : config.sliding_layers)
    types.push_back(sliding ? "sliding_attention" : "full_attention");
  json["layer_types"] = types;
}

OrderedJson hf_config_json(const ModelConfig& config) {
  auto json = family_of(config).to_hf(config);
  // null where there is none: a key that is absent is the family's own default for others, such as Phi-3's
  // padding token 32000.
  json["bos_token_id"] = config.bos ? OrderedJson(*config.bos) : OrderedJson();
  json["eos_token_id"] = config.eos.empty()       ? OrderedJson()
                         : config.eos.size() == 1 ? OrderedJson(config.eos.front())
                                                  : OrderedJson(config.eos);
  json["pad_token_id"] = config.pad ? OrderedJson(*config.pad) : OrderedJson();
  return json;
}

namespace {

bool has_windows(const ModelConfig& config) {
  const auto& slides = config.sliding_layers;
  const bool any = slides.empty() || std::find(slides.begin(), slides.end(), true) != slides.end();
  return config.sliding_window > 0 && any;
}

}  // namespace

std::string gguf_refusal(const ModelConfig& config) {
  const auto& rope = config.rope;
  const auto& family = family_of(config);
  if (config.experts > 0 && !config.renormalise && !config.grouped)
    return "this model's expert weights do not sum to 1 (norm_topk_prob: false), which llama.cpp cannot "
           "compute";
  if ((rope.scaling == RopeScaling::llama3 || !rope.frequency_divisors.empty()) && !family.gguf_llama3)
    return fmt::format("llama.cpp does not read rope scaling of kind llama3 in its architecture {}",
                       family.gguf);
  if (rope.scaling == RopeScaling::longrope && !family.gguf_longrope)
    return fmt::format("llama.cpp does not read rope scaling of kind longrope in its architecture {}",
                       family.gguf);
  if (config.heads * config.head_dim != config.hidden && !family.gguf_head_dim)
    return fmt::format(
        "llama.cpp takes the hidden width {} for {} heads of {} in its architecture {}; it reads no head_dim "
        "there",
        config.hidden, config.heads, config.head_dim, family.gguf);
  if (rope.scaling == RopeScaling::yarn && !rope.truncate)
    return "GGUF has no key for yarn of unrounded bounds (truncate: false)";
  if (family.gguf_refusal)
    if (const auto reason = family.gguf_refusal(config); !reason.empty()) return reason;
  if (config.output_bias && !family.gguf_output_bias)
    return fmt::format("llama.cpp reads no bias of o_proj in its architecture {}", family.gguf);
  return "";
}

std::vector<std::string> gguf_ignored(const ModelConfig& config) {
  const auto& family = family_of(config);
  std::vector<std::string> ignored;
  if (!family.gguf_windows && has_windows(config) && config.sliding_window < config.context)
    ignored.push_back(fmt::format(
        "llama.cpp computes no attention windows in its architecture {}: from token {} of a text on it sees "
        "more than this model does",
        family.gguf, config.sliding_window + 1));
  const auto& rope = config.rope;
  const RopeConfig usual;
  if (rope.scaling == RopeScaling::yarn &&
      (rope.beta_fast != usual.beta_fast || rope.beta_slow != usual.beta_slow))
    ignored.push_back(fmt::format(
        "llama.cpp does not read yarn's bounds from the file: start it with --yarn-beta-fast {:g} "
        "--yarn-beta-slow {:g}",
        rope.beta_fast, rope.beta_slow));
  if (config.latent && config.norm_epsilon != kLatentEpsilon)
    ignored.push_back(fmt::format(
        "llama.cpp takes rms_norm_eps, {:g}, in the norms inside latent attention too, where this model has "
        "{:g}",
        config.norm_epsilon, kLatentEpsilon));
  if (config.rotates_dynamically())
    ignored.push_back(
        fmt::format("GGUF has no key for rope scaling of kind dynamic: the file is this model in texts of up "
                    "to {} tokens, "
                    "its context; transformers would stretch the rotation of longer ones",
                    config.context));
  return ignored;
}

std::vector<std::pair<std::string, GgufValue>> gguf_metadata(const ModelConfig& config) {
  if (const auto reason = gguf_refusal(config); !reason.empty())
    throw FormatError("export.gguf: " + reason + "; set export.gguf: [] and deploy the merged folder");
  GgufKeys keys(config);
  family_of(config).to_gguf(config, keys);
  return std::move(keys.all);
}

GgufKeys::GgufKeys(const ModelConfig& config)
    : config_(config), arch_(std::string(family_of(config).gguf) + ".") {
  add("general.architecture", std::string(family_of(config).gguf));
  add("general.type", std::string("model"));
  add("general.alignment", uint32_t{32});
  whole(".block_count", config.layers);
  whole(".context_length", config.context);
  whole(".embedding_length", config.hidden);
  whole(".feed_forward_length", config.intermediate);
}

void GgufKeys::add(const std::string& key, GgufValue value) {
  all.emplace_back(key.starts_with(".") ? arch_ + key.substr(1) : key, std::move(value));
}
void GgufKeys::whole(const std::string& key, int64_t value) { add(key, static_cast<uint32_t>(value)); }
void GgufKeys::number(const std::string& key, double value) { add(key, static_cast<float>(value)); }

void GgufKeys::experts() {
  whole(".expert_count", config_.experts);
  whole(".expert_used_count", config_.experts_per_token);
}

void GgufKeys::attention() {
  whole(".attention.head_count", config_.heads);
  whole(".attention.head_count_kv", config_.kv_heads);
  number(".attention.layer_norm_rms_epsilon", config_.norm_epsilon);
  whole(".attention.key_length", config_.head_dim);
  whole(".attention.value_length", config_.head_dim);
  whole(".rope.dimension_count", rotated_width(config_.rope, config_.head_dim));
  number(".rope.freq_base", config_.rope.theta);
  whole(".vocab_size", config_.vocabulary);
}

void GgufKeys::windows(bool listed) {
  const auto& slides = config_.sliding_layers;
  if (!has_windows(config_)) return;
  whole(".attention.sliding_window", config_.sliding_window);
  // llama.cpp computes no windows in most architectures; this reader takes them from here.
  if (listed && std::find(slides.begin(), slides.end(), false) != slides.end())
    add(".attention.sliding_window_pattern", GgufArray(slides));
}

void GgufKeys::scaling() {
  const auto& rope = config_.rope;
  if (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::yarn) {
    add(".rope.scaling.type", std::string(rope.scaling == RopeScaling::linear ? "linear" : "yarn"));
    number(".rope.scaling.factor", rope.factor);
    if (rope.scaling == RopeScaling::yarn) {
      whole(".rope.scaling.original_context_length", rope.original_context);
      if (rope.attention_factor > 0)
        number(".rope.scaling.attn_factor", rope.attention_factor / (0.1 * std::log(rope.factor) + 1));
      number(".rope.scaling.yarn_beta_fast", rope.beta_fast);
      number(".rope.scaling.yarn_beta_slow", rope.beta_slow);
    }
  }
  if (rope.scaling == RopeScaling::longrope) {
    whole(".rope.scaling.original_context_length", rope.original_context);
    number(".rope.scaling.attn_factor", rotary_attention_factor(rope, config_.context));
  }
}

std::vector<double> rotary_divisors(const RopeConfig& rope, int64_t head_dim, int64_t context) {
  if (!rope.frequency_divisors.empty()) return rope.frequency_divisors;
  const auto width = rotated_width(rope, head_dim);
  const auto frequencies = rotary_frequencies(rope, head_dim, context, 1);
  std::vector<double> divisors;
  for (int64_t i = 0; i < width / 2; ++i)
    divisors.push_back(std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)) /
                       frequencies[i]);
  return divisors;
}

}  // namespace retort
