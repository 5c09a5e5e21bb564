#include "models/gemma.h"

#include <algorithm>
#include <cmath>

namespace retort {
namespace {

constexpr auto kPattern = ".attention.sliding_window_pattern";

// 0: all slide.
bool slides_in(int64_t layer, int64_t period) { return period == 0 || layer % period < period - 1; }

// nullopt: the windows do not repeat, and the file lists the layers.
std::optional<int64_t> window_period(const ModelConfig& config, int64_t usual) {
  const auto fits = [&](int64_t period) {
    for (int64_t i = 0; i < config.layers; ++i) {
      const bool slides = config.sliding_layers.empty() || config.sliding_layers.at(static_cast<size_t>(i));
      if (slides != slides_in(i, period)) return false;
    }
    return true;
  };
  if (fits(usual)) return usual;
  for (int64_t period = 0; period <= config.layers; ++period)
    if (fits(period)) return period;
  return std::nullopt;
}

}  // namespace

void read_gemma(const HfConfig& config, ModelConfig& model) {
  const auto& defaults = family_of(model).defaults;
  model.embedding_scale = std::sqrt(static_cast<double>(model.hidden));
  if (const auto scalar = number_or_default(config, "query_pre_attn_scalar", defaults.query_pre_attn_scalar);
      scalar > 0)
    model.attention_scale = 1 / std::sqrt(scalar);
  model.attention_soft_cap = number_or_default(config, "attn_logit_softcapping", defaults.attention_soft_cap);
  model.final_soft_cap = number_or_default(config, "final_logit_softcapping", defaults.final_soft_cap);
}

void add_hf_gemma(const ModelConfig& config, OrderedJson& json) {
  const double scale = config.attention_scale > 0 ? config.attention_scale
                                                  : 1 / std::sqrt(static_cast<double>(config.head_dim));
  const double scalar = std::round(1 / (scale * scale) * 1e6) / 1e6;
  // transformers 5 takes a whole number only where it is written as one: 16, not 16.0.
  if (scalar == std::round(scalar)) json["query_pre_attn_scalar"] = static_cast<int64_t>(scalar);
  else json["query_pre_attn_scalar"] = scalar;
  const auto cap = [](double value) { return value > 0 ? OrderedJson(value) : OrderedJson(); };
  if (config.attention_bias || config.output_bias) json["attention_bias"] = true;
  json["attn_logit_softcapping"] = cap(config.attention_soft_cap);
  json["final_logit_softcapping"] = cap(config.final_soft_cap);
}

double gemma_gguf_scale(const ModelConfig& config, int64_t largest_layers) {
  const auto width = config.layers == largest_layers
                         ? static_cast<double>(config.hidden) / static_cast<double>(config.heads)
                         : static_cast<double>(config.head_dim);
  return 1 / std::sqrt(width);
}

void read_gguf_gemma(const GgufMetadata& data, int64_t period, int64_t largest_layers, ModelConfig& config) {
  if (config.sliding_window > 0 && !data.is_list(kPattern)) {
    const auto stated = data.whole(kPattern).value_or(period);
    for (int64_t i = 0; i < config.layers; ++i) config.sliding_layers.push_back(slides_in(i, stated));
  }
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden));
  if (config.attention_scale == 0 && config.layers == largest_layers)
    config.attention_scale = gemma_gguf_scale(config, largest_layers);
}

void add_gguf_windows(const ModelConfig& config, int64_t period, GgufKeys& keys) {
  const auto& slides = config.sliding_layers;
  keys.windows(false);
  if (config.sliding_window == 0 ||
      (!slides.empty() && std::find(slides.begin(), slides.end(), true) == slides.end()))
    return;
  const auto found = window_period(config, period);
  if (!found) keys.add(kPattern, GgufArray(slides));
  else if (*found != period) keys.whole(kPattern, *found);
}

void add_gguf_caps(const ModelConfig& config, GgufKeys& keys) {
  if (config.attention_soft_cap > 0) keys.number(".attn_logit_softcapping", config.attention_soft_cap);
  if (config.final_soft_cap > 0) keys.number(".final_logit_softcapping", config.final_soft_cap);
}

std::string gemma_gguf_refusal(const ModelConfig& config, int64_t largest_layers) {
  if (!config.tied_head)
    return "llama.cpp takes the embedding for the head of every Gemma; this head is another";
  const double scale = config.attention_scale > 0 ? config.attention_scale
                                                  : 1 / std::sqrt(static_cast<double>(config.head_dim));
  const double derived = gemma_gguf_scale(config, largest_layers);
  if (std::abs(scale / derived - 1) > 1e-6)
    return fmt::format(
        "llama.cpp derives Gemma's attention scale from its shape: query_pre_attn_scalar {:g} where "
        "this model has {:g}",
        1 / (derived * derived), 1 / (scale * scale));
  return "";
}

}  // namespace retort
