// What DeepSeek V3 (arXiv:2412.19437) and V3.2 (arXiv:2512.02556) share: latent attention, and a feed-forward
// part that is dense in the first layers and sparse with shared experts in the others.
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

std::unique_ptr<Model> build_deepseek(const Parts& parts);
void read_deepseek(const HfConfig& config, ModelConfig& model);
OrderedJson deepseek_json(const ModelConfig& config);
// llama.cpp's architectures deepseek2 and deepseek32.
void read_deepseek_gguf(const GgufMetadata& data, ModelConfig& config);
void write_deepseek_gguf(const ModelConfig& config, GgufKeys& keys);
std::string deepseek_gguf_refusal(const ModelConfig& config);
// What both sides of attention's product are multiplied with: YaRN's temperature, squared, and the width's.
double latent_scale(const RopeConfig& rope, int64_t head_dim);

}  // namespace retort
