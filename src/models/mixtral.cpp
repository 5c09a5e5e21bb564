// Mixtral (arXiv:2401.04088): Llama's layer with eight feed-forward parts, of which two see a token.
#include <array>

#include "models/experts.h"
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

constexpr std::array kNames = {RoleName{Role::router, "block_sparse_moe", "gate", "ffn_gate_inp"},
                               RoleName{Role::gate, "block_sparse_moe", "w1", "ffn_gate"},
                               RoleName{Role::up, "block_sparse_moe", "w3", "ffn_up"},
                               RoleName{Role::down, "block_sparse_moe", "w2", "ffn_down"}};

struct MixtralLayer : PreNormLayer<SparseMlp> {
  MixtralLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), SparseMlp(parts, index)) {}
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<MixtralLayer>(parts, 0); }

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.rope = read_rope(config, model);
  read_windows(config, model, read_window(config, model), nullptr);
  read_experts(config, model);
  model.expert_intermediate = model.intermediate;
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_experts(config, "num_local_experts", json);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, true, json);
  return json;
}

// GGUF says llama; the experts tell.
bool owns_gguf(const GgufMetadata& data) { return data.whole(".expert_count").value_or(0) > 0; }
void to_gguf(const ModelConfig&, GgufKeys& keys) {
  keys.experts(), keys.attention(), keys.windows(), keys.scaling();
}

}  // namespace

const Family kMixtral = {
    .name = "mixtral",
    .model_type = "mixtral",
    .hf_architecture = "MixtralForCausalLM",
    .gguf = "llama",
    .defaults = {.kv_heads = 8, .context = 131072, .norm_epsilon = 1e-5, .theta = 1e6, .bos = 1, .eos = 2},
    .names = kNames,
    .gguf_interleaved_heads = true,
    .gguf_llama3 = true,
    .gguf_output_bias = true,
    .from_hf = from_hf,
    .to_hf = to_hf,
    .owns_gguf = owns_gguf,
    .from_gguf = read_gguf_experts,
    .to_gguf = to_gguf,
    .build = build};

}  // namespace retort
