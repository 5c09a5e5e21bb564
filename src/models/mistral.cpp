// Mistral (arXiv:2310.06825): Llama's layer, seeing a window.
#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.rope = read_rope(config, model);
  read_windows(config, model, read_window(config, model), nullptr);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, true, json);
  return json;
}

// GGUF says llama; the window tells.
bool owns_gguf(const GgufMetadata& data) {
  return data.whole(".attention.sliding_window").value_or(0) > 0 &&
         data.whole(".expert_count").value_or(0) == 0;
}
void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.windows(), keys.scaling(); }

}  // namespace

const Family kMistral = {
    .name = "mistral",
    .model_type = "mistral",
    .hf_architecture = "MistralForCausalLM",
    .gguf = "llama",
    .defaults = {.kv_heads = 8, .context = 131072, .sliding_window = 4096, .bos = 1, .eos = 2},
    .gguf_interleaved_heads = true,
    .gguf_llama3 = true,
    .gguf_output_bias = true,
    .from_hf = from_hf,
    .to_hf = to_hf,
    .owns_gguf = owns_gguf,
    .to_gguf = to_gguf,
    .build = build_llama};

}  // namespace retort
