// ModelConfig from a config.json of transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters,
// layer_types): what is alike in every family, and what families call for the rest.
#include <cmath>

#include "models/hf_config.h"
#include "models/quantization_config.h"
#include "models/read_config.h"
#include "models/rotary.h"

namespace retort {

double number_or_default(const HfConfig& config, const char* key, double otherwise) {
  return config.names(key) ? config.number(key).value_or(0) : otherwise;
}

namespace {

void require_rotation(const HfConfig& config, const RopeConfig& rope, const ModelConfig& model) {
  if (rope.partial == 1) return;
  const auto& family = family_of(model);
  if (!family.partial_rotation)
    config.fail("partial_rotary_factor",
                fmt::format("a {} rotates whole heads; expected 1", family.model_type));
  const auto width = rotated_width(rope, model.head_dim);
  if (!(rope.partial > 0 && rope.partial < 1) || width == 0 || width % 2 != 0)
    config.fail("partial_rotary_factor",
                fmt::format("expected an even number of rotated dimensions from 2 to {}, found {}",
                            model.head_dim, width));
}

}  // namespace

RopeConfig read_rope_section(const HfConfig& section, double theta, const HfConfig& whole,
                             const ModelConfig& model) {
  const auto& defaults = family_of(model).defaults;
  RopeConfig rope;
  rope.theta = section.number("rope_theta").value_or(theta);
  const auto kind = section.text("rope_type").value_or(section.text("type").value_or("default"));
  rope.factor = section.number("factor").value_or(1);
  constexpr auto kOriginal = "original_max_position_embeddings";
  if (defaults.original_context > 0)  // Phi-3: the key beside the section wins over the one inside
    rope.original_context = whole.whole(kOriginal).value_or(defaults.original_context);
  else rope.original_context = section.whole(kOriginal).value_or(whole.whole(kOriginal).value_or(0));
  rope.attention_factor = section.number("attention_factor").value_or(0);
  constexpr auto kPartial = "partial_rotary_factor";  // transformers 4 has it beside the section
  rope.partial =
      section.number(kPartial).value_or(whole.number(kPartial).value_or(defaults.partial_rotation));
  require_rotation(section.number(kPartial) ? section : whole, rope, model);
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
    rope.mscale = scale.value_or(0), rope.mscale_all_dim = all.value_or(0);
  } else if (kind == "dynamic") {
    rope.scaling = RopeScaling::dynamic;
  } else {
    section.fail("rope_type", "unknown kind '" + printable(kind) +
                                  "'; known: default, linear, llama3, yarn, longrope, dynamic");
  }
  return rope;
}

RopeConfig read_rope(const HfConfig& config, const ModelConfig& model) {
  const double theta = config.number("rope_theta").value_or(family_of(model).defaults.theta);
  if (const auto parameters = config.section("rope_parameters"))
    return read_rope_section(*parameters, theta, config, model);
  if (const auto scaling = config.section("rope_scaling"))
    return read_rope_section(*scaling, theta, config, model);
  RopeConfig rope;
  rope.theta = theta;
  rope.partial = config.number("partial_rotary_factor").value_or(family_of(model).defaults.partial_rotation);
  require_rotation(config, rope, model);
  return rope;
}

RopeConfig read_growing_rope(const HfConfig& config, const ModelConfig& model) {
  constexpr auto kBeta = "llama_4_scaling_beta";
  auto rope = read_rope(config, model);
  const auto section = config.section(config.find("rope_parameters") ? "rope_parameters" : "rope_scaling");
  rope.query_beta = section ? section->number(kBeta).value_or(0) : 0;
  if (rope.original_context > 0) return rope;
  if (*rope.query_beta != 0)
    section->fail("original_max_position_embeddings", fmt::format("missing; {} counts by it", kBeta));
  rope.original_context = model.context;
  return rope;
}

int64_t read_window(const HfConfig& config, const ModelConfig& model) {
  return config.names("sliding_window") ? config.whole("sliding_window").value_or(0)
                                        : family_of(model).defaults.sliding_window;
}

void read_windows(const HfConfig& config, ModelConfig& model, int64_t window,
                  const std::function<bool(int64_t layer)>& habit) {
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
  if (window == 0) return;
  model.sliding_window = window;
  for (int64_t i = 0; habit && i < model.layers; ++i) model.sliding_layers.push_back(habit(i));
}

void read_qwen_windows(const HfConfig& config, ModelConfig& model) {
  const auto first = config.whole("max_window_layers").value_or(family_of(model).defaults.max_window_layers);
  const bool used = config.truth("use_sliding_window", false) || config.find("layer_types");
  read_windows(config, model, used ? read_window(config, model) : 0, [&](int64_t i) { return i >= first; });
}

void read_experts(const HfConfig& config, ModelConfig& model) {
  const auto* key =
      config.find("num_experts") ? "num_experts" : "num_local_experts";  // transformers 5 writes either
  model.experts = config.required(key);
  model.experts_per_token = config.required("num_experts_per_tok");
  if (model.experts > kMostExperts) config.fail(key, fmt::format("more than {} experts", kMostExperts));
  if (model.experts_per_token > model.experts)
    config.fail("num_experts_per_tok",
                fmt::format("is {}, of {} experts", model.experts_per_token, model.experts));
}

void read_attention_bias(const HfConfig& config, ModelConfig& model) {
  model.attention_bias = model.output_bias = config.truth("attention_bias", false);
}

void read_biases(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  model.mlp_bias = config.truth("mlp_bias", false);
}

ModelConfig config_from_hf(const Json& json, const std::string& file, bool has_head) {
  if (!json.is_object()) corrupt(file, "", "expected a JSON object");
  const HfConfig config(json, file);
  const auto kind = config.text("model_type").value_or("");
  const Family* family = nullptr;
  for (const auto& row : families())
    if (!kind.empty() && (kind == row.model_type || kind == row.other_model_type)) family = &row;
  if (!family)
    config.fail("model_type",
                fmt::format("'{}' is not a known family; known: {}", printable(kind), known_families()));

  ModelConfig model;
  read_quantization(config, model);
  model.family = family->name;
  model.hf_architecture = family->hf_architecture;
  const auto& defaults = family->defaults;
  // What has no default must be there.
  const auto size = [&](const char* key, int64_t otherwise) {
    return otherwise > 0 && !config.names(key) ? otherwise : config.required(key);
  };
  model.vocabulary = size("vocab_size", defaults.vocabulary);
  model.hidden = config.required("hidden_size");
  model.layers = config.required("num_hidden_layers");
  model.heads = size("num_attention_heads", defaults.heads);
  const bool all_heads = defaults.kv_heads == 0 || config.names("num_key_value_heads");
  model.kv_heads = config.whole("num_key_value_heads").value_or(all_heads ? model.heads : defaults.kv_heads);
  model.head_dim = config.whole("head_dim")
                       .value_or(defaults.head_dim > 0 ? defaults.head_dim : model.hidden / model.heads);
  model.intermediate = config.required("intermediate_size");
  model.context = size("max_position_embeddings", defaults.context);
  model.norm_epsilon = config.number("rms_norm_eps").value_or(defaults.norm_epsilon);
  // Without a head in the file there is nothing but the embedding to take.
  model.tied_head = config.truth("tie_word_embeddings", defaults.tied_head || !has_head);
  if (model.layers > 1000) config.fail("num_hidden_layers", "more than 1000 layers");
  if (model.kv_heads == 0 || model.heads % model.kv_heads != 0)
    config.fail("num_key_value_heads", "does not divide num_attention_heads");
  if (model.head_dim == 0 || model.head_dim % 2 != 0) config.fail("head_dim", "expected an even head width");

  const std::string expected = family->activation;
  const bool gelu = expected.starts_with("gelu");
  const auto activation =
      config.text("hidden_activation").value_or(config.text("hidden_act").value_or(expected));
  if (activation != expected && !(gelu && activation == "gelu"))  // old configs say gelu, mean the tanh form
    config.fail("hidden_act", "found '" + printable(activation) + "', expected '" + expected + "'");
  if (config.truth("use_bidirectional_attention", false))
    config.fail("use_bidirectional_attention",
                "is true: tokens of this model see those after them, which generation cannot do; expected "
                "false or null");
  family->from_hf(config, model);
  if (config.truth("mlp_bias", false) && !model.mlp_bias)
    config.fail("mlp_bias",
                fmt::format("a {} has no biases in its feed-forward layers; expected false", kind));
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
  if (!config.names("eos_token_id"))
    for (const auto id : defaults.more_eos)
      if (id < model.vocabulary) model.eos.push_back(id);
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
