// Qwen 3 with experts (arXiv:2505.09388): the layer of qwen3.cpp whose feed-forward part is sparse.
#include "models/experts.h"
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct Qwen3MoeLayer : PreNormLayer<SparseMlp> {
  Qwen3MoeLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), SparseMlp(parts, index)) {
    norm_heads(parts, index);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Qwen3MoeLayer>(parts, 0); }

void from_hf(const HfConfig& config, ModelConfig& model) {
  refuse_bias(config);
  model.rope = read_rope(config, model);
  read_experts(config, model);
  model.expert_intermediate = config.required("moe_intermediate_size");
  model.renormalise = config.truth("norm_topk_prob", false);
  if (config.truth("use_sliding_window", false))
    config.fail("use_sliding_window", "windows are not supported in this family; expected false");
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_experts(config, "num_experts", json);
  json["moe_intermediate_size"] = config.expert_intermediate;
  json["norm_topk_prob"] = config.renormalise;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = OrderedJson::array();
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias;
  return json;
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.experts();
  keys.whole(".expert_feed_forward_length", config.expert_intermediate);
  keys.attention(), keys.scaling();
}

}  // namespace

const Family kQwen3Moe = {.name = "qwen3_moe",
                          .model_type = "qwen3_moe",
                          .hf_architecture = "Qwen3MoeForCausalLM",
                          .gguf = "qwen3moe",
                          .defaults = {.kv_heads = 4, .context = 32768, .sliding_window = 4096},
                          .from_hf = from_hf,
                          .to_hf = to_hf,
                          .from_gguf = read_gguf_experts,
                          .to_gguf = to_gguf,
                          .build = build};

}  // namespace retort
