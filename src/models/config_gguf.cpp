// ModelConfig from GGUF metadata. Key names and defaults: llama.cpp's llama-arch.cpp and llama-model.cpp.
#include <cmath>

#include "base/error.h"
#include "models/families.h"
#include "models/read_config.h"
#include "text/tokenizer.h"

namespace retort {
namespace {

class Metadata {
 public:
  explicit Metadata(const WeightFile& file) : file_(file) {}

  std::optional<double> number(const std::string& key) const {
    const auto* value = file_.metadata(key);
    if (!value) return std::nullopt;
    return std::visit(
        [&](const auto& held) -> double {
          using Held = std::decay_t<decltype(held)>;
          if constexpr (std::is_arithmetic_v<Held> && !std::is_same_v<Held, bool>)
            return static_cast<double>(held);
          else fail(key, "expected a number");
        },
        static_cast<const GgufValue::variant&>(*value));
  }
  std::optional<int64_t> whole(const std::string& key) const {
    const auto value = number(key);
    if (!value) return std::nullopt;
    if (*value != std::floor(*value) || *value < 0 || *value > 1e9)
      fail(key, fmt::format("expected a whole number from 0 to 1000000000, found {}", *value));
    return static_cast<int64_t>(*value);
  }
  int64_t required(const std::string& key) const {
    const auto value = whole(key);
    if (!value) fail(key, "missing; a model file has it");
    if (*value == 0) fail(key, "is 0");
    return *value;
  }
  std::optional<std::string> text(const std::string& key) const {
    const auto* value = file_.metadata(key);
    if (!value) return std::nullopt;
    if (const auto* held = std::get_if<std::string>(value)) return *held;
    fail(key, "expected a string");
  }
  bool is_list(const std::string& key) const {
    const auto* value = file_.metadata(key);
    return value && std::holds_alternative<GgufArray>(*value);
  }
  std::optional<bool> truth(const std::string& key) const {
    const auto* value = file_.metadata(key);
    if (!value) return std::nullopt;
    if (const auto* held = std::get_if<bool>(value)) return *held;
    fail(key, "expected a boolean");
  }
  template <class Element> std::vector<Element> list(const std::string& key) const {
    const auto* value = file_.metadata(key);
    if (!value) return {};
    const auto* array = std::get_if<GgufArray>(value);
    if (!array) fail(key, "expected an array");
    return std::visit(
        [&](const auto& held) -> std::vector<Element> {
          using Held = typename std::decay_t<decltype(held)>::value_type;
          if constexpr (std::is_same_v<Held, Element>) return held;
          else if constexpr (std::is_arithmetic_v<Held> && std::is_arithmetic_v<Element>)
            return std::vector<Element>(held.begin(), held.end());
          else fail(key, "has elements of the wrong type");
        },
        *array);
  }
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    corrupt(file_.path.string(), key, problem);
  }

 private:
  const WeightFile& file_;
};

std::vector<double> small_vector(const WeightFile& file, const char* name) {
  const auto* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  if (values.size() > 65536 || type_info(tensor->type).block_elements != 1)
    corrupt(file.path.string(), name, "expected a short dense vector");
  dequantize_rows(tensor->type, tensor->data.data(), values.data(), 1, tensor->elements());
  return {values.begin(), values.end()};
}

RopeConfig rope_of(const Metadata& data, const WeightFile& file, const std::string& arch) {
  RopeConfig rope;
  rope.theta = data.number(arch + "rope.freq_base").value_or(10000);
  const auto kind = data.text(arch + "rope.scaling.type").value_or("none");
  rope.factor = data.number(arch + "rope.scaling.factor").value_or(1);
  rope.original_context = data.whole(arch + "rope.scaling.original_context_length").value_or(0);
  if (kind == "linear" || (kind == "none" && rope.factor > 1)) rope.scaling = RopeScaling::linear;
  else if (kind == "yarn") rope.scaling = RopeScaling::yarn;
  else if (kind == "longrope") rope.scaling = RopeScaling::longrope;
  else if (kind != "none")
    data.fail(arch + "rope.scaling.type",
              "unknown kind '" + printable(kind) + "'; known: none, linear, yarn, longrope");
  rope.attention_factor = data.number(arch + "rope.scaling.attn_factor").value_or(0);
  rope.frequency_divisors = small_vector(file, "rope_freqs.weight");
  rope.long_factor = small_vector(file, "rope_factors_long.weight");
  rope.short_factor = small_vector(file, "rope_factors_short.weight");
  if (!rope.long_factor.empty()) rope.scaling = RopeScaling::longrope;
  if (rope.scaling == RopeScaling::yarn) {  // llama.cpp multiplies attn_factor with the paper's 0.1 ln(s) + 1
    if (rope.attention_factor > 0) rope.attention_factor *= 0.1 * std::log(rope.factor) + 1;
    rope.beta_fast = data.number(arch + "rope.scaling.yarn_beta_fast").value_or(32);
    rope.beta_slow = data.number(arch + "rope.scaling.yarn_beta_slow").value_or(1);
  }
  return rope;
}

}  // namespace

ModelConfig config_from_gguf(const WeightFile& file) {
  const Metadata data(file);
  const auto architecture = data.text("general.architecture").value_or("");
  const Family* family = nullptr;
  for (const auto& row : families())
    if (!family && architecture == row.gguf) family = &row;
  if (!family)
    data.fail("general.architecture", fmt::format("'{}' is not a known architecture; known families: {}",
                                                  printable(architecture), known_families()));

  const auto arch = architecture + ".";
  ModelConfig config;
  config.family = family->name;
  config.hf_architecture = family->hf_architecture;
  config.layers = data.required(arch + "block_count");
  config.hidden = data.required(arch + "embedding_length");
  config.heads = data.required(arch + "attention.head_count");
  config.kv_heads = data.whole(arch + "attention.head_count_kv").value_or(config.heads);
  config.head_dim = data.whole(arch + "attention.key_length").value_or(config.hidden / config.heads);
  config.intermediate = data.required(arch + "feed_forward_length");
  config.context = data.required(arch + "context_length");
  config.norm_epsilon = data.number(arch + "attention.layer_norm_rms_epsilon").value_or(1e-5);
  config.rope = rope_of(data, file, arch);
  if (config.rope.original_context == 0 && config.rope.scaling == RopeScaling::yarn)
    config.rope.original_context = config.context;  // as llama.cpp
  if (const auto experts = data.whole(arch + "expert_count").value_or(0); experts > 0) {
    if (config.family == "llama") {  // one architecture, three families
      config.family = "mixtral";
      config.hf_architecture = "MixtralForCausalLM";
    } else if (config.family != "qwen3_moe") {
      data.fail(arch + "expert_count", "models with experts are not read in this architecture");
    }
    config.experts = experts;
    config.experts_per_token = data.required(arch + "expert_used_count");
    config.expert_intermediate =
        data.whole(arch + "expert_feed_forward_length").value_or(config.intermediate);
    if (config.experts_per_token > experts)
      data.fail(arch + "expert_used_count",
                fmt::format("is {}, of {} experts", config.experts_per_token, experts));
    if (experts > kMostExperts)
      data.fail(arch + "expert_count", fmt::format("more than {} experts", kMostExperts));
    if (config.expert_intermediate == 0) data.fail(arch + "expert_feed_forward_length", "is 0");
  } else if (config.family == "qwen3_moe") {
    data.fail(arch + "expert_count", "missing or 0; expected the number of experts");
  }
  if (config.layers > 1000) data.fail(arch + "block_count", "more than 1000 layers");
  if (config.kv_heads == 0 || config.heads % config.kv_heads != 0)
    data.fail(arch + "attention.head_count_kv", "does not divide the number of heads");
  if (config.head_dim == 0 || config.head_dim % 2 != 0)
    data.fail(arch + "attention.key_length", "expected an even head width");
  if (data.whole(arch + "rope.dimension_count").value_or(config.head_dim) != config.head_dim)
    data.fail(arch + "rope.dimension_count", "partial rotation is not supported; expected the head width");

  const auto* tokens = file.find("token_embd.weight");
  if (!tokens || tokens->shape.size() != 2)
    corrupt(file.path.string(), "token_embd.weight", "missing or not a matrix");
  config.vocabulary = tokens->shape[0];
  config.tied_head = file.find("output.weight") == nullptr;
  config.attention_bias = file.find("blk.0.attn_q.bias") != nullptr;
  if (config.family == "qwen2" && !config.attention_bias)
    corrupt(file.path.string(), "blk.0.attn_q.bias", "missing");

  config.sliding_window = data.whole(arch + "attention.sliding_window").value_or(0);
  config.attention_scale = data.number(arch + "attention.scale").value_or(0);
  if (config.family == "llama" && config.sliding_window > 0) {
    config.family = "mistral";
    config.hf_architecture = "MistralForCausalLM";
  }
  const bool gemma = config.family.starts_with("gemma");
  const auto pattern = arch + "attention.sliding_window_pattern";
  if (data.is_list(pattern)) {
    config.sliding_layers = data.list<bool>(pattern);
    if (static_cast<int64_t>(config.sliding_layers.size()) != config.layers)
      data.fail(pattern,
                fmt::format("{} entries for {} layers", config.sliding_layers.size(), config.layers));
  } else if (gemma && config.sliding_window > 0) {
    const auto period = data.whole(pattern).value_or(gguf_window_default(config));
    for (int64_t i = 0; i < config.layers; ++i) config.sliding_layers.push_back(gguf_layer_slides(i, period));
  }
  if (config.family == "gemma2") {
    config.attention_soft_cap = data.number(arch + "attn_logit_softcapping").value_or(50);
    config.final_soft_cap = data.number(arch + "final_logit_softcapping").value_or(30);
  }
  if (config.family == "gemma3") {
    config.final_soft_cap = data.number(arch + "final_logit_softcapping").value_or(0);
    config.local_rope = RopeConfig{};
    config.local_rope->theta = data.number(arch + "rope.freq_base_swa").value_or(10000);
  }
  if (gemma) {
    config.embedding_scale = std::sqrt(static_cast<double>(config.hidden));
    const auto usual = 1 / std::sqrt(static_cast<double>(config.head_dim));
    if (const auto scale = gguf_attention_scale(config); config.attention_scale == 0 && scale != usual)
      config.attention_scale = scale;
  }
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
  const Metadata data(file);
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
