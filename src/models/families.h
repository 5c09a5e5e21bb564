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

struct Family {
  const char* name;             // ModelConfig.family; Hugging Face's model_type but for gemma3
  const char* model_type;       // config.json
  const char* hf_architecture;  // config.json
  const char* gguf;             // general.architecture; several families may share one: the first row wins
  std::unique_ptr<Model> (*build)(const Parts& parts);
};
const std::vector<Family>& families();
std::string known_families();  // "llama, mistral, ..." for error messages

}  // namespace retort
