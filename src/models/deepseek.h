// What DeepSeek V2 (arXiv:2405.04434), V3 (arXiv:2412.19437) and V3.2 (arXiv:2512.02556) share with
// GLM-4.7-Flash, Kimi K2, Moonlight and Mistral Small 4: latent attention, and a feed-forward part that is
// dense in the first layers and sparse with shared experts in the others.
#pragma once
#include "models/experts.h"
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/latent_attention.h"

namespace retort {

class DeepseekLayer {
 public:
  DeepseekLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  Model::Halfway attend(const Tensor& x, const Pass& pass) const;
  const Indexer* indexer() const { return self_attn.indexer ? &*self_attn.indexer : nullptr; }
  const SparseMlp* experts() const { return mlp.sparse ? &*mlp.sparse : nullptr; }
  template <class Visit> void linears(Visit&& visit) { self_attn.linears(visit), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(input_layernorm);
    self_attn.norms(visit);
    visit(post_attention_layernorm);
  }
  template <class Visit> void vectors(Visit&& visit) { self_attn.vectors(visit), mlp.vectors(visit); }

 private:
  Norm input_layernorm, post_attention_layernorm;
  LatentAttention self_attn;
  FeedForward mlp;
};

// A stack of these, and behind it, where it was read, the layer that predicts the token after the next
// (multi-token prediction, arXiv:2412.19437, section 2.2). It has the embedding and the head of the model.
class DeepseekModel final : public Stack<DeepseekLayer> {
 public:
  explicit DeepseekModel(const Parts& parts) : DeepseekModel(parts, shared_rotary(parts.config)) {}
  Tensor mtp_states(const Tensor& before, const Pass& pass) const override;

 private:
  struct Mtp {
    Norm enorm, hnorm;
    Linear eh_proj;  // [E, 2 E]
    DeepseekLayer layer;
    Norm norm;
  };
  DeepseekModel(const Parts& parts, const std::shared_ptr<const Rotary>& rotary);
  static std::shared_ptr<const Rotary> shared_rotary(const ModelConfig& of);
  std::optional<Mtp> mtp_;
};

// What transformers' class of a family takes for a size that config.json leaves out, those of the 671B models
// here; 0: there must be one. Of `routing`, how experts are scored and groups judged is the family's own.
struct DeepseekHabits {
  int64_t q_rank = 1536, kv_rank = 512, nope_dim = 128, rope_dim = 64, value_dim = 128;
  int64_t dense_layers = 3, experts = 256, shared_experts = 1, experts_per_token = 8, expert_width = 2048;
  GroupedRouting routing = {8, 4, 2.5};
  bool renormalise = true;
  const char* choice = "noaux_tc";  // topk_method
  bool reads_groups = true;         // n_group and topk_group tell something
};

std::unique_ptr<Model> build_deepseek(const Parts& parts);
void read_deepseek(const HfConfig& config, ModelConfig& model, const DeepseekHabits& usual = {});
OrderedJson deepseek_json(const ModelConfig& config);
// Refuses another list of words for a key than this one, where config.json has the key.
void require_words(const HfConfig& config, const char* key, const std::vector<std::string>& expected);
// "dense" and "sparse": config.json's mlp_layer_types.
std::vector<std::string> mlp_layer_types(const ModelConfig& config);

// llama.cpp's architectures deepseek2, deepseek32 and mistral4. `usual`: of the family, how experts are
// scored and groups judged.
void read_deepseek_gguf(const GgufMetadata& data, ModelConfig& config, const GroupedRouting& usual = {});
bool scores_by_sigmoids(const GgufMetadata& data);
void write_deepseek_gguf(const ModelConfig& config, GgufKeys& keys);
std::string deepseek_gguf_refusal(const ModelConfig& config);
// What both sides of attention's product are multiplied with: YaRN's temperature, squared, and the width's.
double latent_scale(const RopeConfig& rope, int64_t head_dim);

}  // namespace retort
