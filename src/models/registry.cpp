#include "base/error.h"
#include "models/families.h"

namespace retort {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      {"llama", "llama", "LlamaForCausalLM", "llama", {.context = 2048, .bos = 1, .eos = 2}, build_llama},
      {"mistral",
       "mistral",
       "MistralForCausalLM",
       "llama",
       {.kv_heads = 8, .context = 131072, .sliding_window = 4096, .bos = 1, .eos = 2},
       build_llama},
      {"qwen2",
       "qwen2",
       "Qwen2ForCausalLM",
       "qwen2",
       {.kv_heads = 32, .context = 32768, .sliding_window = 4096, .max_window_layers = 28},
       build_qwen2},
      {"qwen3",
       "qwen3",
       "Qwen3ForCausalLM",
       "qwen3",
       {.kv_heads = 32, .head_dim = 128, .context = 32768, .sliding_window = 4096, .max_window_layers = 28},
       build_qwen3},
      {"gemma2",
       "gemma2",
       "Gemma2ForCausalLM",
       "gemma2",
       {.kv_heads = 4,
        .head_dim = 256,
        .context = 8192,
        .sliding_window = 4096,
        .tied_head = true,
        .query_pre_attn_scalar = 256,
        .attention_soft_cap = 50,
        .final_soft_cap = 30,
        .bos = 2,
        .eos = 1,
        .pad = 0},
       build_gemma2},
      {"gemma3",
       "gemma3_text",
       "Gemma3ForCausalLM",
       "gemma3",
       {.kv_heads = 4,
        .head_dim = 256,
        .context = 131072,
        .sliding_window = 4096,
        .theta = 1e6,
        .tied_head = true,
        .query_pre_attn_scalar = 256,
        .bos = 2,
        .eos = 1,
        .pad = 0},
       build_gemma3},
      {"phi3",
       "phi3",
       "Phi3ForCausalLM",
       "phi3",
       {.context = 4096,
        .original_context = 4096,
        .norm_epsilon = 1e-5,
        .bos = 1,
        .eos = 32000,
        .pad = 32000},
       build_phi3},
      {"qwen3_moe",
       "qwen3_moe",
       "Qwen3MoeForCausalLM",
       "qwen3moe",
       {.kv_heads = 4, .context = 32768, .sliding_window = 4096},
       build_qwen3_moe},
      {"mixtral",
       "mixtral",
       "MixtralForCausalLM",
       "llama",
       {.kv_heads = 8, .context = 131072, .norm_epsilon = 1e-5, .theta = 1e6, .bos = 1, .eos = 2},
       build_mixtral},
  };
  return table;
}

std::string known_families() {
  std::string names;
  for (const auto& family : families()) names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  return names;
}

std::unique_ptr<Model> build_model(const ModelConfig& config,
                                   const std::function<Linear(const std::string& name)>& take_linear,
                                   const std::function<Tensor(const std::string& name)>& take_vector,
                                   const std::function<Weight(const std::string& name)>& take_matrix) {
  for (const auto& family : families())
    if (config.family == family.name)
      return family.build(Parts(config, take_linear, take_vector, take_matrix));
  throw FormatError(
      fmt::format("unknown model family '{}'; known: {}", printable(config.family), known_families()));
}

}  // namespace retort
