// Llama 2 and 3, SmolLM2: arXiv:2302.13971, arXiv:2407.21783.
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct LlamaLayer : PreNormLayer<GatedMlp> {
  LlamaLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), GatedMlp(parts, index, Activation::silu)) {}
};

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_biases(config, model);
  model.rope = read_rope(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_biases(config, json);
  return json;
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.scaling(); }

}  // namespace

std::unique_ptr<Model> build_llama(const Parts& parts) { return stack_of<LlamaLayer>(parts, 0); }

const Family kLlama = {.name = "llama",
                       .model_type = "llama",
                       .hf_architecture = "LlamaForCausalLM",
                       .gguf = "llama",
                       .defaults = {.context = 2048, .bos = 1, .eos = 2},
                       .gguf_interleaved_heads = true,
                       .gguf_llama3 = true,
                       .gguf_output_bias = true,
                       .from_hf = from_hf,
                       .to_hf = to_hf,
                       .to_gguf = to_gguf,
                       .build = build_llama};

}  // namespace retort
