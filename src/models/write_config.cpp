// ModelConfig as transformers' config.json and as GGUF metadata: the way back of config_hf.cpp and
// config_gguf.cpp.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "models/gguf_names.h"
#include "models/read_config.h"
#include "models/rotary.h"

namespace retort {
namespace {

// A GGUF file keeps Llama 3's scaling as divisors of the frequencies; config.json wants the parameters behind
// them.
RopeConfig with_llama3_parameters(const ModelConfig& config) {
  RopeConfig rope = config.rope;
  if (rope.frequency_divisors.empty()) return rope;
  const auto found = rope.frequency_divisors;
  for (const double factor : {8.0, 32.0}) {  // Llama 3.1 and 3.2
    RopeConfig guess;
    guess.theta = rope.theta;
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
  switch (rope.scaling) {
    case RopeScaling::none: break;
    case RopeScaling::linear: json["rope_type"] = "linear", json["factor"] = rope.factor; break;
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

}  // namespace

OrderedJson hf_config_json(const ModelConfig& config) {
  const bool gemma = config.family.starts_with("gemma");
  const auto rope = with_llama3_parameters(config);
  OrderedJson json;
  json["architectures"] = {config.hf_architecture};
  json["model_type"] = config.family == "gemma3" ? "gemma3_text" : config.family;
  json["vocab_size"] = config.vocabulary;
  json["hidden_size"] = config.hidden;
  json["intermediate_size"] = config.intermediate;
  if (config.experts > 0) {
    json[config.family == "mixtral" ? "num_local_experts" : "num_experts"] = config.experts;
    json["num_experts_per_tok"] = config.experts_per_token;
  }
  if (config.family == "qwen3_moe") {
    json["moe_intermediate_size"] = config.expert_intermediate;
    json["norm_topk_prob"] = config.renormalise;
    json["decoder_sparse_step"] = 1;
    json["mlp_only_layers"] = OrderedJson::array();
  }
  json["num_hidden_layers"] = config.layers;
  json["num_attention_heads"] = config.heads;
  json["num_key_value_heads"] = config.kv_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.context;
  json["rms_norm_eps"] = config.norm_epsilon;
  json[gemma ? "hidden_activation" : "hidden_act"] = gemma ? "gelu_pytorch_tanh" : "silu";
  json["tie_word_embeddings"] = config.tied_head;
  if (config.family == "gemma3") {
    json["rope_parameters"] = {{"full_attention", rope_json(rope)},
                               {"sliding_attention", rope_json(config.local_rope.value_or(RopeConfig{}))}};
  } else {
    // Both spellings: rope_parameters is transformers 5's, rope_theta and rope_scaling are what 4 reads.
    json["rope_theta"] = rope.theta;
    json["rope_parameters"] = rope_json(rope);
    if (rope.scaling != RopeScaling::none) {
      json["rope_scaling"] = rope_json(rope);
      json["rope_scaling"].erase("rope_theta");
    }
    if (rope.scaling == RopeScaling::longrope)
      json["original_max_position_embeddings"] = rope.original_context;
  }
  if (config.family == "llama" || config.family.starts_with("qwen3"))
    json["attention_bias"] = config.attention_bias;
  if (config.sliding_window > 0) {
    json["sliding_window"] = config.sliding_window;
    if (config.family.starts_with("qwen")) json["use_sliding_window"] = true;
  } else if (config.family == "mistral" || config.family == "mixtral" || config.family == "phi3") {
    json["sliding_window"] = nullptr;
  }
  if (!config.sliding_layers.empty()) {
    auto types = OrderedJson::array();
    for (const bool sliding : config.sliding_layers)
      types.push_back(sliding ? "sliding_attention" : "full_attention");
    json["layer_types"] = types;
  }
  if (gemma) {
    const double scale = config.attention_scale > 0 ? config.attention_scale
                                                    : 1 / std::sqrt(static_cast<double>(config.head_dim));
    const double scalar = std::round(1 / (scale * scale) * 1e6) / 1e6;
    // transformers 5 takes a whole number only where it is written as one: 16, not 16.0.
    if (scalar == std::round(scalar)) json["query_pre_attn_scalar"] = static_cast<int64_t>(scalar);
    else json["query_pre_attn_scalar"] = scalar;
    const auto cap = [](double value) { return value > 0 ? OrderedJson(value) : OrderedJson(); };
    json["attn_logit_softcapping"] = cap(config.attention_soft_cap);
    json["final_logit_softcapping"] = cap(config.final_soft_cap);
  }
  // null where there is none: a key that is absent is the family's own default for others, such as Phi-3's
  // padding token 32000.
  json["bos_token_id"] = config.bos ? OrderedJson(*config.bos) : OrderedJson();
  json["eos_token_id"] = config.eos.empty()       ? OrderedJson()
                         : config.eos.size() == 1 ? OrderedJson(config.eos.front())
                                                  : OrderedJson(config.eos);
  json["pad_token_id"] = config.pad ? OrderedJson(*config.pad) : OrderedJson();
  return json;
}

std::string gguf_refusal(const ModelConfig& config) {
  const auto& rope = config.rope;
  const bool gemma = config.family.starts_with("gemma");
  if (config.experts > 0 && !config.renormalise)
    return "this model's expert weights do not sum to 1 (norm_topk_prob: false), which llama.cpp cannot "
           "compute";
  if ((rope.scaling == RopeScaling::llama3 || !rope.frequency_divisors.empty()) &&
      gguf_architecture(config) != "llama")
    return fmt::format(
        "llama.cpp reads rope scaling of kind llama3 in its architecture llama alone, not in {}",
        gguf_architecture(config));
  if (rope.scaling == RopeScaling::longrope && config.family != "phi3")
    return fmt::format("llama.cpp does not read rope scaling of kind longrope in its architecture {}",
                       gguf_architecture(config));
  if (rope.scaling == RopeScaling::yarn && !rope.truncate)
    return "GGUF has no key for yarn of unrounded bounds (truncate: false)";
  if (config.local_rope && config.local_rope->scaling != RopeScaling::none)
    return "GGUF has no key for rope scaling in the layers with a window";
  if (!gemma) return "";
  if (!config.tied_head)
    return "llama.cpp takes the embedding for the head of every Gemma; this head is another";
  const double scale = config.attention_scale > 0 ? config.attention_scale
                                                  : 1 / std::sqrt(static_cast<double>(config.head_dim));
  if (std::abs(scale / gguf_attention_scale(config) - 1) > 1e-6)
    return fmt::format(
        "llama.cpp derives Gemma's attention scale from its shape: query_pre_attn_scalar {:g} where "
        "this model has {:g}",
        1 / std::pow(gguf_attention_scale(config), 2), 1 / (scale * scale));
  if (config.family == "gemma2" && (config.attention_soft_cap == 0 || config.final_soft_cap == 0))
    return "llama.cpp computes no Gemma 2 without soft caps";
  if (config.family == "gemma3" && config.attention_soft_cap > 0)
    return "llama.cpp computes no Gemma 3 with a soft cap on attention (attn_logit_softcapping)";
  return "";
}

double gguf_attention_scale(const ModelConfig& config) {
  const bool largest = (config.family == "gemma2" && config.layers == 46) ||
                       (config.family == "gemma3" && config.layers == 62);  // 27B
  const auto width = largest ? static_cast<double>(config.hidden) / static_cast<double>(config.heads)
                             : static_cast<double>(config.head_dim);
  return 1 / std::sqrt(width);
}

// Gemma's layers slide but for the last of each `period`; 0: all slide.
bool gguf_layer_slides(int64_t layer, int64_t period) { return period == 0 || layer % period < period - 1; }

int64_t gguf_window_default(const ModelConfig& config) { return config.family == "gemma2" ? 2 : 6; }

std::optional<int64_t> gguf_window_period(const ModelConfig& config) {
  const auto fits = [&](int64_t period) {
    for (int64_t i = 0; i < config.layers; ++i) {
      const bool slides = config.sliding_layers.empty() || config.sliding_layers.at(static_cast<size_t>(i));
      if (slides != gguf_layer_slides(i, period)) return false;
    }
    return true;
  };
  const auto usual = gguf_window_default(config);
  if (fits(usual)) return usual;
  for (int64_t period = 0; period <= config.layers; ++period)
    if (fits(period)) return period;
  return std::nullopt;
}

std::vector<std::pair<std::string, GgufValue>> gguf_metadata(const ModelConfig& config) {
  if (const auto reason = gguf_refusal(config); !reason.empty())
    throw FormatError("export.gguf: " + reason + "; set export.gguf: [] and deploy the merged folder");
  const bool gemma = config.family.starts_with("gemma");
  const auto architecture = gguf_architecture(config);
  const auto arch = architecture + ".";
  std::vector<std::pair<std::string, GgufValue>> metadata;
  const auto whole = [&](const std::string& key, int64_t value) {
    metadata.emplace_back(arch + key, static_cast<uint32_t>(value));
  };
  const auto number = [&](const std::string& key, double value) {
    metadata.emplace_back(arch + key, static_cast<float>(value));
  };
  metadata.emplace_back("general.architecture", architecture);
  metadata.emplace_back("general.type", std::string("model"));
  metadata.emplace_back("general.alignment", uint32_t{32});
  whole("block_count", config.layers);
  whole("context_length", config.context);
  whole("embedding_length", config.hidden);
  whole("feed_forward_length", config.intermediate);
  if (config.experts > 0) {
    whole("expert_count", config.experts);
    whole("expert_used_count", config.experts_per_token);
    if (config.family == "qwen3_moe") whole("expert_feed_forward_length", config.expert_intermediate);
  }
  whole("attention.head_count", config.heads);
  whole("attention.head_count_kv", config.kv_heads);
  number("attention.layer_norm_rms_epsilon", config.norm_epsilon);
  whole("attention.key_length", config.head_dim);
  whole("attention.value_length", config.head_dim);
  whole("rope.dimension_count", config.head_dim);
  number("rope.freq_base", config.rope.theta);
  whole("vocab_size", config.vocabulary);
  const auto& slides = config.sliding_layers;
  const auto some = [&](bool sliding) {
    return std::find(slides.begin(), slides.end(), sliding) != slides.end();
  };
  if (config.sliding_window > 0 && (slides.empty() || some(true))) {
    whole("attention.sliding_window", config.sliding_window);
    if (gemma) {
      const auto period = gguf_window_period(config);
      if (!period) metadata.emplace_back(arch + "attention.sliding_window_pattern", GgufArray(slides));
      else if (*period != gguf_window_default(config)) whole("attention.sliding_window_pattern", *period);
    } else if (some(false)) {
      // llama.cpp computes no windows in these architectures; this reader takes them from here.
      metadata.emplace_back(arch + "attention.sliding_window_pattern", GgufArray(slides));
    }
  } else if (config.family == "gemma2") {
    whole("attention.sliding_window", config.context);  // a file without the key has a window of 4096
  }
  if (config.local_rope) number("rope.freq_base_swa", config.local_rope->theta);
  if (config.attention_soft_cap > 0) number("attn_logit_softcapping", config.attention_soft_cap);
  if (config.final_soft_cap > 0) number("final_logit_softcapping", config.final_soft_cap);
  const auto& rope = config.rope;
  if (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::yarn) {
    metadata.emplace_back(arch + "rope.scaling.type",
                          std::string(rope.scaling == RopeScaling::linear ? "linear" : "yarn"));
    number("rope.scaling.factor", rope.factor);
    if (rope.scaling == RopeScaling::yarn) {
      whole("rope.scaling.original_context_length", rope.original_context);
      if (rope.attention_factor > 0)
        number("rope.scaling.attn_factor", rope.attention_factor / (0.1 * std::log(rope.factor) + 1));
      number("rope.scaling.yarn_beta_fast", rope.beta_fast);
      number("rope.scaling.yarn_beta_slow", rope.beta_slow);
    }
  }
  if (rope.scaling == RopeScaling::longrope) {
    whole("rope.scaling.original_context_length", rope.original_context);
    number("rope.scaling.attn_factor", rotary_attention_factor(rope, config.context));
  }
  return metadata;
}

std::vector<double> rotary_divisors(const RopeConfig& rope, int64_t head_dim, int64_t context) {
  if (!rope.frequency_divisors.empty()) return rope.frequency_divisors;
  const auto frequencies = rotary_frequencies(rope, head_dim, context, 1);
  std::vector<double> divisors;
  for (int64_t i = 0; i < head_dim / 2; ++i)
    divisors.push_back(std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)) /
                       frequencies[i]);
  return divisors;
}

}  // namespace retort
