// SmolLM3 (huggingface.co/blog/smollm3): Llama's layer, without rotation in every fourth (arXiv:2501.18795).
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct SmolLm3Layer : PreNormLayer<GatedMlp> {
  SmolLm3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index,
                     parts.config.unrotated_layers.at(static_cast<size_t>(index)) ? nullptr : rotary,
                     GatedMlp(parts, index, Activation::silu)) {}
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<SmolLm3Layer>(parts, 0); }

constexpr int64_t kPeriod = 4;

std::vector<bool> last_of_each(int64_t period, int64_t layers) {
  std::vector<bool> all;
  for (int64_t i = 0; i < layers; ++i) all.push_back(period > 0 && (i + 1) % period == 0);
  return all;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_biases(config, model);
  model.rope = read_rope(config, model);
  constexpr auto kList = "no_rope_layers";  // 1: rotated
  const auto rotated = config.numbers(kList);
  if (!config.find(kList)) {
    model.unrotated_layers =
        last_of_each(config.whole("no_rope_layer_interval").value_or(kPeriod), model.layers);
  } else if (static_cast<int64_t>(rotated.size()) < model.layers) {
    config.fail(kList, fmt::format("expected a list of {} numbers, 0 or 1", model.layers));
  }
  for (int64_t i = 0; i < model.layers && !rotated.empty(); ++i)
    model.unrotated_layers.push_back(rotated[static_cast<size_t>(i)] == 0);
  // transformers computes windows only where use_sliding_window says so, even of layers listed as sliding.
  const bool used = config.truth("use_sliding_window", false);
  if (used)
    read_windows(config, model, read_window(config, model),
                 [&](int64_t i) { return model.unrotated_layers[static_cast<size_t>(i)]; });
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_biases(config, json);
  auto rotated = OrderedJson::array();
  for (const bool without : config.unrotated_layers) rotated.push_back(without ? 0 : 1);
  json["no_rope_layers"] = rotated;
  json["use_sliding_window"] = config.sliding_window > 0;
  add_hf_windows(config, true, json);
  return json;
}

void from_gguf(const GgufMetadata&, ModelConfig& config) {
  config.unrotated_layers = last_of_each(kPeriod, config.layers);
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.scaling(); }

std::string refusal(const ModelConfig& config) {
  if (config.sliding_window > 0) return "llama.cpp computes no windows in its architecture smollm3";
  if (config.attention_bias || config.output_bias || config.mlp_bias)
    return "llama.cpp reads no biases in its architecture smollm3";
  if (config.unrotated_layers != last_of_each(kPeriod, config.layers))
    return "llama.cpp leaves exactly every fourth layer of a smollm3 without rotation, and this model others";
  return "";
}

}  // namespace

const Family kSmolLm3 = {.name = "smollm3",
                         .model_type = "smollm3",
                         .hf_architecture = "SmolLM3ForCausalLM",
                         .gguf = "smollm3",
                         .defaults = {.kv_heads = 4,
                                      .context = 32768,
                                      .theta = 2e6,
                                      .tied_head = true,
                                      .bos = 128000,
                                      .eos = 128001,
                                      .pad = 128004},
                         .gguf_interleaved_heads = true,
                         .from_hf = from_hf,
                         .to_hf = to_hf,
                         .from_gguf = from_gguf,
                         .to_gguf = to_gguf,
                         .gguf_refusal = refusal,
                         .build = build};

}  // namespace retort
