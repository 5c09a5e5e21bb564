// Granite 3 and 4, dense (arXiv:2412.04447 for its scales): Llama's layer with four constants, of the
// embedding, of attention, of what a layer adds, and of the logits.
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct GraniteLayer : PreNormLayer<GatedMlp> {
  double residual_scale;

  GraniteLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), GatedMlp(parts, index, Activation::silu)),
        residual_scale(parts.config.residual_scale) {}

  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto attended = self_attn.forward(rms_norm(x, input_layernorm), pass) * residual_scale;
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attended, post_attention_layernorm);
    return h + mlp.forward(normed, pass, pass.layer_result) * residual_scale;
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<GraniteLayer>(parts, 0); }

double positive(const HfConfig& config, const char* key) {
  const auto value = config.number(key).value_or(1);
  if (!(value > 0)) config.fail(key, "expected a number above 0");
  return value;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_biases(config, model);
  model.rope = read_rope(config, model);
  model.embedding_scale = positive(config, "embedding_multiplier");
  model.attention_scale = positive(config, "attention_multiplier");
  model.residual_scale = positive(config, "residual_multiplier");
  model.logit_divisor = positive(config, "logits_scaling");
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_biases(config, json);
  json["embedding_multiplier"] = config.embedding_scale;
  json["attention_multiplier"] = config.attention_scale > 0
                                     ? config.attention_scale
                                     : 1 / std::sqrt(static_cast<double>(config.head_dim));
  json["residual_multiplier"] = config.residual_scale;
  json["logits_scaling"] = config.logit_divisor;
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  const auto scale = [&](const char* key) {
    const auto value = data.number(key).value_or(0);
    return value > 0 ? value : 1;  // 0 is llama.cpp's word for none
  };
  config.embedding_scale = scale(".embedding_scale");
  config.residual_scale = scale(".residual_scale");
  config.logit_divisor = scale(".logit_scale");
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  keys.attention();
  keys.scaling();
  if (config.attention_scale > 0) keys.number(".attention.scale", config.attention_scale);
  keys.number(".embedding_scale", config.embedding_scale);
  keys.number(".residual_scale", config.residual_scale);
  keys.number(".logit_scale", config.logit_divisor);
}

}  // namespace

const Family kGranite = {.name = "granite",
                         .model_type = "granite",
                         .hf_architecture = "GraniteForCausalLM",
                         .gguf = "granite",
                         .defaults = {.context = 2048, .bos = 1, .eos = 2},
                         .gguf_interleaved_heads = true,
                         .gguf_output_bias = true,
                         .from_hf = from_hf,
                         .to_hf = to_hf,
                         .from_gguf = from_gguf,
                         .to_gguf = to_gguf,
                         .build = build};

}  // namespace retort
