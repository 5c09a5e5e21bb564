// The families that retort knows: each is one file, and one line in registry.cpp.
#pragma once
#include <span>

#include "base/json.h"
#include "models/layers.h"

namespace retort {

class HfConfig;      // models/hf_config.h
class GgufMetadata;  // models/gguf_config.h
class GgufKeys;

// What transformers' configuration class of a family takes for a key that config.json leaves out
// (models/*/configuration_*.py of transformers 5).
struct HfDefaults {
  int64_t vocabulary = 0, heads = 0;  // 0: must be written
  int64_t kv_heads = 0;               // 0: as many as there are query heads
  int64_t head_dim = 0;               // 0: hidden / heads
  int64_t context = 0, original_context = 0;
  int64_t sliding_window = 0;     // 0: none
  int64_t max_window_layers = 0;  // Qwen: the layers before this one have no window
  double norm_epsilon = 1e-6, theta = 10000;
  bool tied_head = false;
  double query_pre_attn_scalar = 0, attention_soft_cap = 0, final_soft_cap = 0;  // Gemma
  std::optional<int32_t> bos = {}, eos = {}, pad = {};
  std::span<const int32_t> more_eos = {};
  double partial_rotation = 1;  // the share of a head that is rotated
};

// All that tells one family from another. What families share are functions that theirs call.
struct Family {
  const char* name = "";                      // ModelConfig.family; Hugging Face's model_type but for gemma3
  const char* model_type = "";                // config.json
  const char* other_model_type = "";          // of the same model; model_type is written
  const char* hf_architecture = "";           // config.json
  const char* gguf = "";                      // general.architecture; several families may share one
  const char* activation_key = "hidden_act";  // config.json
  const char* activation = "silu";
  const char* chat_template = "";  // the built-in one of models that bring an encoder of their own instead
  HfDefaults defaults = {};
  bool fused_projections = false;        // q, k, v are rows of one matrix, or gate and up are
  bool partial_rotation = false;         // partial_rotary_factor is read
  std::span<const RoleName> names = {};  // of its tensors, where they are others than most have
  bool stacked_experts = false;          // a folder has a layer's experts in two tensors (stack_name())
  bool gguf_interleaved_heads = false;   // GGUF: rows of q and k, inside of each head
  bool gguf_norms_plus_one = false;      // GGUF: the norms' weights
  // What llama.cpp computes in `gguf`: kinds of rope scaling; heads that are not hidden / heads wide;
  // windows; a bias of o_proj.
  bool gguf_llama3 = false, gguf_longrope = false, gguf_head_dim = true, gguf_windows = false,
       gguf_output_bias = false;

  // Rotation, windows, experts and scales; sizes, activation and token ids are read for every family.
  void (*from_hf)(const HfConfig& config, ModelConfig& model) = nullptr;
  OrderedJson (*to_hf)(const ModelConfig& config) = nullptr;  // but for the token ids
  // Of families that share an architecture: whether the file is of this one; nullptr: of none of the others.
  bool (*owns_gguf)(const GgufMetadata& data) = nullptr;
  void (*from_gguf)(const GgufMetadata& data, ModelConfig& config) = nullptr;
  void (*to_gguf)(const ModelConfig& config, GgufKeys& keys) = nullptr;
  std::string (*gguf_refusal)(const ModelConfig& config) = nullptr;  // beyond what holds for every family
  std::unique_ptr<Model> (*build)(const Parts& parts) = nullptr;
};

extern const Family kLlama, kMistral, kQwen2, kQwen3, kGemma2, kGemma3, kPhi3, kQwen3Moe, kMixtral, kSmolLm3,
    kGranite, kOlmo2, kOlmo3, kDeepseekV2, kDeepseekV3, kDeepseekV32, kGlm4, kGlm4MoeLite, kSeedOss,
    kMinistral3, kMistral4;

const std::vector<Family>& families();
const Family& family_of(const ModelConfig& config);  // FormatError when there is none of this name
std::string known_families();                        // "llama, mistral, ..." for error messages

std::unique_ptr<Model> build_llama(const Parts& parts);  // Llama's layer, for those that change no part of it

}  // namespace retort
