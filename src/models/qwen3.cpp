// Qwen 3 (arXiv:2505.09388): Llama's layer with RMSNorm over each head of q and k before the rotation.
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct Qwen3Layer : PreNormLayer<GatedMlp> {
  Qwen3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), GatedMlp(parts, index, Activation::silu)) {
    norm_heads(parts, index);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Qwen3Layer>(parts, 0); }

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_attention_bias(config, model);
  model.rope = read_rope(config, model);
  read_qwen_windows(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  json["attention_bias"] = config.attention_bias || config.output_bias;
  add_hf_windows(config, false, json);
  return json;
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.windows(), keys.scaling(); }

}  // namespace

const Family kQwen3 = {.name = "qwen3",
                       .model_type = "qwen3",
                       .hf_architecture = "Qwen3ForCausalLM",
                       .gguf = "qwen3",
                       .defaults = {.kv_heads = 32,
                                    .head_dim = 128,
                                    .context = 32768,
                                    .sliding_window = 4096,
                                    .max_window_layers = 28},
                       .from_hf = from_hf,
                       .to_hf = to_hf,
                       .to_gguf = to_gguf,
                       .build = build};

}  // namespace retort
