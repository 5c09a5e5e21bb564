#include "plan/known_models.h"

#include <array>

namespace retort {
namespace {

// DeepSeek V3's technical report (arXiv:2412.19437, section 4.2) and the config.json of its repository.
constexpr auto kDeepseekV3 = R"({
  "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "num_hidden_layers": 61,
  "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
  "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
  "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3, "routed_scaling_factor": 2.5,
  "norm_topk_prob": true, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rms_norm_eps": 1e-6,
  "max_position_embeddings": 163840, "rope_theta": 10000, "tie_word_embeddings": false,
  "num_nextn_predict_layers": 1,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
                   "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]}})";

struct Known {
  const char* name;
  bool indexer;  // V3.2's (arXiv:2512.02556): 64 heads of 128 that choose 2,048 tokens
};
constexpr std::array kKnown = {Known{"deepseek-v3", false}, Known{"deepseek-v3.2", true}};

}  // namespace

std::optional<Json> known_config(const std::string& name) {
  for (const auto& known : kKnown) {
    if (name != known.name) continue;
    auto config = Json::parse(kDeepseekV3);
    if (known.indexer)
      config.update({{"model_type", "deepseek_v32"},
                     {"index_n_heads", 64},
                     {"index_head_dim", 128},
                     {"index_topk", 2048}});
    return config;
  }
  return std::nullopt;
}

std::string known_model_names() {
  std::string names;
  for (const auto& known : kKnown) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

}  // namespace retort
