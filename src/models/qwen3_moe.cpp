// Qwen 3 with experts (arXiv:2505.09388): the layer of qwen3.cpp whose feed-forward part is sparse, in all
// layers or in some.
#include <algorithm>

#include "models/experts.h"
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct Qwen3MoeLayer : PreNormLayer<FeedForward> {
  Qwen3MoeLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), FeedForward(parts, index)) {
    norm_heads(parts, index);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Qwen3MoeLayer>(parts, 0); }

// Layers of which transformers makes no experts: those in the list, and all but every n-th.
void read_dense_layers(const HfConfig& config, ModelConfig& model) {
  constexpr auto kStep = "decoder_sparse_step";
  const auto step = config.names(kStep) ? config.required(kStep) : 1;
  const auto listed = config.numbers("mlp_only_layers");
  for (int64_t i = 0; i < model.layers; ++i)
    model.dense_layers.push_back((i + 1) % step != 0 ||
                                 std::ranges::find(listed, static_cast<double>(i)) != listed.end());
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  model.rope = read_rope(config, model);
  read_experts(config, model);
  model.expert_intermediate = config.required("moe_intermediate_size");
  model.renormalise = config.truth("norm_topk_prob", false);
  read_dense_layers(config, model);
  // In all layers: transformers reads neither max_window_layers nor layer_types here.
  if (config.truth("use_sliding_window", false)) model.sliding_window = read_window(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_experts(config, "num_experts", json);
  json["moe_intermediate_size"] = config.expert_intermediate;
  json["norm_topk_prob"] = config.renormalise;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = OrderedJson::array();
  for (int64_t i = 0; i < config.layers; ++i)
    if (!config.has_experts(i)) json["mlp_only_layers"].push_back(i);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias || config.output_bias;
  if (config.sliding_window > 0) {
    json["use_sliding_window"] = true;
    json["sliding_window"] = config.sliding_window;
  }
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  read_gguf_experts(data, config);
  if (std::ranges::find(config.sliding_layers, false) != config.sliding_layers.end())
    data.fail(".attention.sliding_window_pattern", "a qwen3_moe has its window in all layers or in none");
  config.sliding_layers.clear();
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.experts();
  keys.whole(".expert_feed_forward_length", config.expert_intermediate);
  keys.attention(), keys.windows(), keys.scaling();
}

std::string refusal(const ModelConfig& config) {
  for (int64_t i = 0; i < config.layers; ++i)
    if (!config.has_experts(i))
      return fmt::format(
          "llama.cpp wants experts in every layer of its architecture qwen3moe; layer {} has none", i);
  return "";
}

}  // namespace

const Family kQwen3Moe = {.name = "qwen3_moe",
                          .model_type = "qwen3_moe",
                          .hf_architecture = "Qwen3MoeForCausalLM",
                          .gguf = "qwen3moe",
                          .defaults = {.kv_heads = 4, .context = 32768, .sliding_window = 4096},
                          .from_hf = from_hf,
                          .to_hf = to_hf,
                          .from_gguf = from_gguf,
                          .to_gguf = to_gguf,
                          .gguf_refusal = refusal,
                          .build = build};

}  // namespace retort
