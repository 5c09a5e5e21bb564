// Qwen 2 and 2.5 (arXiv:2407.10671, arXiv:2412.15115): Llama's layer with biases on q, k and v.
#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.attention_bias = true;
  model.rope = read_rope(config, model);
  read_qwen_windows(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, false, json);
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  if (!config.attention_bias) data.fail("blk.0.attn_q.bias", "missing");
}
void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.windows(), keys.scaling(); }

std::unique_ptr<Model> build(const Parts& parts) {
  if (!parts.config.attention_bias) throw std::logic_error("qwen2 has attention biases");
  return build_llama(parts);  // Attention takes the biases that the configuration asks for
}

}  // namespace

const Family kQwen2 = {
    .name = "qwen2",
    .model_type = "qwen2",
    .hf_architecture = "Qwen2ForCausalLM",
    .gguf = "qwen2",
    .defaults = {.kv_heads = 32, .context = 32768, .sliding_window = 4096, .max_window_layers = 28},
    .gguf_head_dim = false,
    .from_hf = from_hf,
    .to_hf = to_hf,
    .from_gguf = from_gguf,
    .to_gguf = to_gguf,
    .build = build};

}  // namespace retort
