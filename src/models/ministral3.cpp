// Ministral 3 (huggingface.co/mistralai/Ministral-3-8B-Base-2512): Mistral's layer, whose queries grow along
// a text (RopeConfig::query_beta).
#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

// What Ministral3Config takes where config.json has no rotation at all.
RopeConfig usual_rope() {
  RopeConfig rope;
  rope.theta = 1e6, rope.scaling = RopeScaling::yarn, rope.factor = 16, rope.original_context = 16384;
  rope.mscale = rope.mscale_all_dim = rope.attention_factor = 1;
  rope.query_beta = 0.1;
  return rope;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.sliding_window = read_window(config, model);  // of all layers
  if (!config.find("rope_parameters") && !config.find("rope_scaling") && !config.names("rope_theta")) {
    model.rope = usual_rope();
    return;
  }
  model.rope = read_growing_rope(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, true, json);
  return json;
}

// llama.cpp's converter says the temperature of yarn by mscale_all_dim alone, and takes mscale for 1.
void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  auto& rope = config.rope;
  rope.query_beta = data.number(".attention.temperature_scale").value_or(0);
  if (rope.original_context == 0) rope.original_context = config.context;
  const auto all = data.number(".rope.scaling.yarn_log_multiplier").value_or(0);
  if (rope.scaling != RopeScaling::yarn || all == 0 || !(rope.factor > 1)) return;
  const double usual = 0.1 * std::log(rope.factor) + 1;
  const double own = rope.attention_factor > 0 ? rope.attention_factor / usual : 1;
  rope.attention_factor = own * usual / (0.1 * all * std::log(rope.factor) + 1);
  rope.mscale = 1, rope.mscale_all_dim = all;
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.attention(), keys.windows(), keys.scaling();
  const auto& rope = config.rope;
  if (rope.query_beta.value_or(0) == 0) return;
  keys.number(".attention.temperature_scale", *rope.query_beta);
  if (rope.scaling != RopeScaling::yarn)
    keys.whole(".rope.scaling.original_context_length", rope.original_context);
}

}  // namespace

const Family kMinistral3 = {.name = "ministral3",
                            .model_type = "ministral3",
                            .hf_architecture = "Ministral3ForCausalLM",
                            .gguf = "mistral3",
                            .defaults = {.kv_heads = 8,
                                         .head_dim = 128,
                                         .context = 262144,
                                         .norm_epsilon = 1e-5,
                                         .theta = 1e6,
                                         .bos = 1,
                                         .eos = 2,
                                         .pad = 11},
                            .gguf_interleaved_heads = true,
                            .gguf_llama3 = true,
                            .gguf_output_bias = true,
                            .from_hf = from_hf,
                            .to_hf = to_hf,
                            .from_gguf = from_gguf,
                            .to_gguf = to_gguf,
                            .build = build_llama};

}  // namespace retort
