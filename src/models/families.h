// The families that retort knows: one builder a file, one row each in registry.cpp.
#pragma once
#include "models/layers.h"

namespace retort {

std::unique_ptr<Model> build_llama(const Parts& parts);  // Llama 2 and 3, SmolLM2, Mistral
std::unique_ptr<Model> build_qwen2(const Parts& parts);
std::unique_ptr<Model> build_qwen3(const Parts& parts);
std::unique_ptr<Model> build_gemma2(const Parts& parts);
std::unique_ptr<Model> build_gemma3(const Parts& parts);
std::unique_ptr<Model> build_phi3(const Parts& parts);
std::unique_ptr<Model> build_qwen3_moe(const Parts& parts);
std::unique_ptr<Model> build_mixtral(const Parts& parts);

// What transformers' configuration class of a family takes for a key that config.json leaves out
// (models/*/configuration_*.py of transformers 5).
struct HfDefaults {
  int64_t kv_heads = 0;  // 0: as many as there are query heads
  int64_t head_dim = 0;  // 0: hidden / heads
  int64_t context = 0, original_context = 0;
  int64_t sliding_window = 0;     // 0: none
  int64_t max_window_layers = 0;  // Qwen: the layers before this one have no window
  double norm_epsilon = 1e-6, theta = 10000;
  bool tied_head = false;
  double query_pre_attn_scalar = 0, attention_soft_cap = 0, final_soft_cap = 0;  // Gemma
  std::optional<int32_t> bos = {}, eos = {}, pad = {};
};

struct Family {
  const char* name;             // ModelConfig.family; Hugging Face's model_type but for gemma3
  const char* model_type;       // config.json
  const char* hf_architecture;  // config.json
  const char* gguf;             // general.architecture; several families may share one: the first row wins
  HfDefaults defaults;
  std::unique_ptr<Model> (*build)(const Parts& parts);
};
const std::vector<Family>& families();
std::string known_families();  // "llama, mistral, ..." for error messages

}  // namespace retort
