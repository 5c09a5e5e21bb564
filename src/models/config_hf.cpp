// ModelConfig from a config.json of transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters,
// layer_types).
#include <cmath>

#include "base/error.h"
#include "models/families.h"
#include "models/read_config.h"

namespace retort {
namespace {

class Config {
 public:
  Config(const Json& json, std::string file, std::string path = "")
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  const Json* find(const std::string& key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  // A key that is null says "none"; only one that is absent takes the family's default.
  bool names(const std::string& key) const { return json_.contains(key); }
  std::optional<double> number(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number()) fail(key, "expected a number");
    return value->get<double>();
  }
  std::optional<int64_t> whole(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number_integer() || value->get<double>() < 0 || value->get<double>() > 1e9)
      fail(key, "expected a whole number from 0 to 1000000000");
    return value->get<int64_t>();
  }
  int64_t required(const std::string& key) const {
    const auto value = whole(key);
    if (!value || *value == 0) fail(key, "missing or 0; expected a positive whole number");
    return *value;
  }
  std::optional<std::string> text(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_string()) fail(key, "expected a string");
    return value->get<std::string>();
  }
  bool truth(const std::string& key, bool otherwise) const {
    const auto* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) fail(key, "expected true or false");
    return value->get<bool>();
  }
  std::vector<double> numbers(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return {};
    if (!value->is_array()) fail(key, "expected a list of numbers");
    std::vector<double> list;
    for (const auto& element : *value) {
      if (!element.is_number()) fail(key, "expected a list of numbers");
      list.push_back(element.get<double>());
    }
    return list;
  }
  std::optional<Config> section(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_object()) fail(key, "expected a section");
    return Config(*value, file_, path_ + key + ".");
  }
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    corrupt(file_, path_ + key, problem);
  }

 private:
  const Json& json_;
  std::string file_, path_;
};

// One section of rope_parameters, or the old pair rope_theta and rope_scaling.
RopeConfig rope_of(const Config& section, double theta, const Config& whole, const ModelConfig& model,
                   const HfDefaults& defaults) {
  RopeConfig rope;
  rope.theta = section.number("rope_theta").value_or(theta);
  const auto kind = section.text("rope_type").value_or(section.text("type").value_or("default"));
  rope.factor = section.number("factor").value_or(1);
  constexpr auto kOriginal = "original_max_position_embeddings";
  if (defaults.original_context > 0)  // Phi-3: the key beside the section wins over the one inside
    rope.original_context = whole.whole(kOriginal).value_or(defaults.original_context);
  else rope.original_context = section.whole(kOriginal).value_or(whole.whole(kOriginal).value_or(0));
  rope.attention_factor = section.number("attention_factor").value_or(0);
  if (section.number("partial_rotary_factor").value_or(1) != 1)
    section.fail("partial_rotary_factor", "partial rotation is not supported; expected 1");
  if (kind == "default") return rope;
  if (rope.original_context == 0 && kind != "linear") rope.original_context = model.context;
  if (kind == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (kind == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.low_frequency_factor = section.number("low_freq_factor").value_or(1);
    rope.high_frequency_factor = section.number("high_freq_factor").value_or(4);
  } else if (kind == "longrope" || kind == "su" ||
             !section.numbers("long_factor").empty()) {  // Phi-3's old names: su, yarn
    rope.scaling = RopeScaling::longrope;
    rope.long_factor = section.numbers("long_factor");
    rope.short_factor = section.numbers("short_factor");
  } else if (kind == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.beta_fast = section.number("beta_fast").value_or(32);
    rope.beta_slow = section.number("beta_slow").value_or(1);
    rope.truncate = section.truth("truncate", true);
    const auto scale = section.number("mscale"), all = section.number("mscale_all_dim");
    if (rope.attention_factor == 0 && scale && all && *scale != 0 && *all != 0) {
      const auto of = [&](double m) { return rope.factor > 1 ? 0.1 * m * std::log(rope.factor) + 1 : 1.0; };
      rope.attention_factor = of(*scale) / of(*all);
    }
  } else {
    section.fail("rope_type",
                 "unknown kind '" + printable(kind) + "'; known: default, linear, llama3, yarn, longrope");
  }
  return rope;
}

void read_rope(const Config& config, ModelConfig& model, const HfDefaults& defaults) {
  const double theta = config.number("rope_theta").value_or(defaults.theta);
  const auto from = [&](const Config& section, double base) {
    return rope_of(section, base, config, model, defaults);
  };
  const auto parameters = config.section("rope_parameters");
  if (model.family == "gemma3") {
    const double local = config.number("rope_local_base_freq").value_or(10000);
    if (parameters && parameters->section("full_attention") && parameters->section("sliding_attention")) {
      model.rope = from(*parameters->section("full_attention"), theta);
      model.local_rope = from(*parameters->section("sliding_attention"), local);
      return;
    }
    model.local_rope = RopeConfig{};
    model.local_rope->theta = local;
  }
  if (parameters) model.rope = from(*parameters, theta);
  else if (const auto scaling = config.section("rope_scaling")) model.rope = from(*scaling, theta);
  else model.rope.theta = theta;
}

// Which layers see only a window: `layer_types` where it is written, else each family's own habit.
void read_windows(const Config& config, ModelConfig& model, const HfDefaults& defaults) {
  const auto window =
      config.names("sliding_window") ? config.whole("sliding_window").value_or(0) : defaults.sliding_window;
  if (const auto* types = config.find("layer_types")) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != model.layers)
      config.fail("layer_types", fmt::format("expected a list of {} words", model.layers));
    bool any_slides = false;
    for (const auto& type : *types) {
      if (type != "sliding_attention" && type != "full_attention")
        config.fail("layer_types", "expected only 'sliding_attention' and 'full_attention'");
      model.sliding_layers.push_back(type == "sliding_attention");
      any_slides = any_slides || model.sliding_layers.back();
    }
    if (any_slides && window == 0)
      config.fail("sliding_window", "missing, but layer_types has sliding layers");
    model.sliding_window = any_slides ? window : 0;
    if (!any_slides) model.sliding_layers.clear();
    return;
  }
  const bool qwen = model.family.starts_with("qwen");
  if (window == 0 || model.family == "llama" || (qwen && !config.truth("use_sliding_window", false))) return;
  model.sliding_window = window;
  const auto first = config.whole("max_window_layers").value_or(defaults.max_window_layers),
             pattern = config.whole("sliding_window_pattern").value_or(6);
  for (int64_t i = 0; i < model.layers; ++i) {
    if (qwen) model.sliding_layers.push_back(i >= first);
    if (model.family == "gemma2") model.sliding_layers.push_back(i % 2 == 0);
    if (model.family == "gemma3") model.sliding_layers.push_back((i + 1) % pattern != 0);
  }
}

void read_experts(const Config& config, ModelConfig& model) {
  const bool qwen = model.family == "qwen3_moe";
  if (!qwen && model.family != "mixtral") return;
  const auto* key =
      config.find("num_experts") ? "num_experts" : "num_local_experts";  // transformers 5 writes either
  model.experts = config.required(key);
  model.experts_per_token = config.required("num_experts_per_tok");
  model.expert_intermediate = qwen ? config.required("moe_intermediate_size") : model.intermediate;
  model.renormalise = !qwen || config.truth("norm_topk_prob", false);
  if (model.experts > kMostExperts) config.fail(key, fmt::format("more than {} experts", kMostExperts));
  if (model.experts_per_token > model.experts)
    config.fail("num_experts_per_tok",
                fmt::format("is {}, of {} experts", model.experts_per_token, model.experts));
  if (config.whole("decoder_sparse_step").value_or(1) != 1)
    config.fail("decoder_sparse_step", "layers without experts are not supported; expected 1");
  if (const auto* dense = config.find("mlp_only_layers"); dense && !(dense->is_array() && dense->empty()))
    config.fail("mlp_only_layers", "layers without experts are not supported; expected an empty list");
  if (qwen && config.truth("use_sliding_window", false))
    config.fail("use_sliding_window", "windows are not supported in this family; expected false");
}

}  // namespace

ModelConfig config_from_hf(const Json& json, const std::string& file, bool has_head) {
  if (!json.is_object()) corrupt(file, "", "expected a JSON object");
  const Config config(json, file);
  const auto kind = config.text("model_type").value_or("");
  const Family* family = nullptr;
  for (const auto& row : families())
    if (kind == row.model_type) family = &row;
  if (!family)
    config.fail("model_type",
                fmt::format("'{}' is not a known family; known: {}", printable(kind), known_families()));
  if (config.find("quantization_config"))
    config.fail("quantization_config",
                "quantized folders are not read here; use the original weights or a .gguf file");

  ModelConfig model;
  model.family = family->name;
  model.hf_architecture = family->hf_architecture;
  model.vocabulary = config.required("vocab_size");
  model.hidden = config.required("hidden_size");
  model.layers = config.required("num_hidden_layers");
  model.heads = config.required("num_attention_heads");
  const auto& defaults = family->defaults;
  const bool all_heads = defaults.kv_heads == 0 || config.names("num_key_value_heads");
  model.kv_heads = config.whole("num_key_value_heads").value_or(all_heads ? model.heads : defaults.kv_heads);
  model.head_dim = config.whole("head_dim")
                       .value_or(defaults.head_dim > 0 ? defaults.head_dim : model.hidden / model.heads);
  model.intermediate = config.required("intermediate_size");
  model.context =
      config.names("max_position_embeddings") ? config.required("max_position_embeddings") : defaults.context;
  model.norm_epsilon = config.number("rms_norm_eps").value_or(defaults.norm_epsilon);
  // Without a head in the file there is nothing but the embedding to take.
  model.tied_head = config.truth("tie_word_embeddings", defaults.tied_head || !has_head);
  if (model.layers > 1000) config.fail("num_hidden_layers", "more than 1000 layers");
  if (model.kv_heads == 0 || model.heads % model.kv_heads != 0)
    config.fail("num_key_value_heads", "does not divide num_attention_heads");
  if (model.head_dim == 0 || model.head_dim % 2 != 0) config.fail("head_dim", "expected an even head width");
  if (config.truth("mlp_bias", false))
    config.fail("mlp_bias", "biases in the feed-forward layers are not supported");
  if (config.number("partial_rotary_factor").value_or(1) != 1)
    config.fail("partial_rotary_factor", "partial rotation is not supported; expected 1");

  const bool gemma = model.family.starts_with("gemma");
  const auto activation =
      config.text("hidden_activation")
          .value_or(config.text("hidden_act").value_or(gemma ? "gelu_pytorch_tanh" : "silu"));
  const std::string expected = gemma ? "gelu_pytorch_tanh" : "silu";
  if (activation != expected &&
      !(gemma && activation == "gelu"))  // Gemma's old configs say gelu and mean the tanh form
    config.fail("hidden_act", "found '" + printable(activation) + "', expected '" + expected + "'");
  model.attention_bias = model.family == "qwen2" || config.truth("attention_bias", false);
  if (model.attention_bias && model.family != "qwen2")
    config.fail("attention_bias", "a bias on o_proj is not supported");

  if (config.truth("use_bidirectional_attention", false))
    config.fail("use_bidirectional_attention",
                "is true: tokens of this model see those after them, which generation cannot do; expected "
                "false or null");
  read_rope(config, model, defaults);
  read_windows(config, model, defaults);
  read_experts(config, model);
  if (gemma) {
    model.embedding_scale = std::sqrt(static_cast<double>(model.hidden));
    const auto given = [&](const char* key, double otherwise) {
      return config.names(key) ? config.number(key).value_or(0) : otherwise;
    };
    if (const auto scalar = given("query_pre_attn_scalar", defaults.query_pre_attn_scalar); scalar > 0)
      model.attention_scale = 1 / std::sqrt(scalar);
    model.attention_soft_cap = given("attn_logit_softcapping", defaults.attention_soft_cap);
    model.final_soft_cap = given("final_logit_softcapping", defaults.final_soft_cap);
  }
  const auto ids = [&](const std::string& key, std::optional<int32_t> otherwise) {
    std::vector<int32_t> list;
    if (!config.names(key) && otherwise && *otherwise < model.vocabulary) list.push_back(*otherwise);
    const auto* value = config.find(key);
    if (!value) return list;
    const auto take = [&](const Json& id) {
      if (!id.is_number_integer() || id.get<double>() < 0 ||
          id.get<double>() >= static_cast<double>(model.vocabulary))
        config.fail(key, "expected token ids of the vocabulary");
      list.push_back(id.get<int32_t>());
    };
    if (value->is_array())
      for (const auto& id : *value) take(id);
    else take(*value);
    return list;
  };
  model.eos = ids("eos_token_id", defaults.eos);
  if (const auto bos = ids("bos_token_id", defaults.bos); !bos.empty()) model.bos = bos.front();
  if (!config.names("pad_token_id")) {
    if (defaults.pad && *defaults.pad < model.vocabulary) model.pad = defaults.pad;
  } else if (const auto pad = config.find("pad_token_id");
             pad && pad->is_number_integer() && pad->get<int64_t>() >= 0) {
    model.pad = pad->get<int32_t>();
  }
  return model;
}

}  // namespace retort
