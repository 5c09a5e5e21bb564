#include "base/error.h"
#include "models/families.h"

namespace retort {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      {"llama", "llama", "LlamaForCausalLM", "llama", build_llama},
      {"mistral", "mistral", "MistralForCausalLM", "llama", build_llama},
      {"qwen2", "qwen2", "Qwen2ForCausalLM", "qwen2", build_qwen2},
      {"qwen3", "qwen3", "Qwen3ForCausalLM", "qwen3", build_qwen3},
      {"gemma2", "gemma2", "Gemma2ForCausalLM", "gemma2", build_gemma2},
      {"gemma3", "gemma3_text", "Gemma3ForCausalLM", "gemma3", build_gemma3},
      {"phi3", "phi3", "Phi3ForCausalLM", "phi3", build_phi3},
      {"qwen3_moe", "qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe", build_qwen3_moe},
      {"mixtral", "mixtral", "MixtralForCausalLM", "llama", build_mixtral},
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
