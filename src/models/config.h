// The numbers that make a decoder-only transformer, whatever file they came from (config.json or GGUF
// metadata).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace retort {

// dynamic: none within the model's context; what transformers does beyond it depends on the longest text that
// it met before, which no text of its own can say.
enum class RopeScaling { none, linear, llama3, yarn, longrope, dynamic };

struct RopeConfig {
  double theta = 10000;
  double partial = 1;  // the share of a head's width that is rotated, from its front (Phi-4-mini: 0.75)
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;
  double low_frequency_factor = 1, high_frequency_factor = 4;  // llama3
  int64_t original_context = 0;                                // llama3, yarn, longrope
  double beta_fast = 32, beta_slow = 1, attention_factor = 0;  // yarn; 0 = the formula's default
  bool truncate = true;                                        // yarn
  double mscale = 0, mscale_all_dim = 0;          // yarn of DeepSeek: both make attention_factor; 0 = none
  std::vector<double> long_factor, short_factor;  // longrope
  std::vector<double> frequency_divisors;         // GGUF rope_freqs.weight, when the file holds it
  // Ministral 3, Mistral Small 4: a query at place p is multiplied with
  // 1 + b ln(1 + floor(p / original_context)).
  std::optional<double> query_beta;
  // Whether texts within the model's context are rotated otherwise than without scaling.
  bool scales() const { return scaling != RopeScaling::none && scaling != RopeScaling::dynamic; }
};

// Multi-head latent attention (arXiv:2405.04434): the keys and values of all heads are made from one narrow
// vector a token, and one rotated key is the same for all of them.
struct LatentConfig {
  int64_t q_rank = 0;  // 0: queries are made from the hidden state itself
  int64_t kv_rank = 0, nope_dim = 0, rope_dim = 0, value_dim = 0;
  bool interleaved = true;  // rotated pairs stand next to each other
};

// DeepSeek V3.2 (arXiv:2512.02556): which `top` tokens each token attends to.
struct IndexerConfig {
  int64_t heads = 0, head_dim = 0, top = 0;
};

// How a DeepSeek chooses experts: among those of the best groups alone. V3 scores by sigmoids, with a bias
// that only chooses (arXiv:2412.19437, section 2.1.2), V2 and Mistral Small 4 by a softmax
// (arXiv:2405.04434).
struct GroupedRouting {
  int64_t groups = 1, groups_per_token = 1;
  double scale = 1;  // what the weights of a token's experts are multiplied with
  bool sigmoid = true;
  int64_t judged_by = 2;  // a group is as good as the sum of so many of its largest scores: 1 (V2) or 2
};

// How matrices of F8_E4M3 are stored: with a scale for each block of so many rows and columns; 0: with one
// for each row or for all, as the shape of the scales says.
struct Fp8Config {
  int64_t block_rows = 0, block_columns = 0;
  bool power_of_two = false;  // scales are powers of two
};

// How matrices of 4-bit codes are stored, each in several tensors (four_bit.h).
struct FourBitConfig {
  // Of floats, E2M1: compressed-tensors' with scales of E8M0 and of E4M3, and ModelOpt's of E4M3.
  enum class Method : uint8_t { bitsandbytes, gptq, awq, mxfp4, nvfp4, modelopt };
  Method method = Method::bitsandbytes;
  int64_t group_size = 0;       // inputs that share a scale; 0: all. bitsandbytes says it with each matrix
  bool zeros_less_one = false;  // GPTQ's first format: zero points are stored less one
  bool any_order = false;  // GPTQ's desc_act: g_idx says which input is in which group, and must be there
};
// config.json's quant_method, or its format where compressed-tensors has several
const char* name_of(FourBitConfig::Method method);
inline bool is_e2m1(FourBitConfig::Method method) { return method >= FourBitConfig::Method::mxfp4; }

struct ModelConfig {
  std::string family;           // "llama": the name of a row of models/registry.cpp
  std::string hf_architecture;  // "LlamaForCausalLM"
  int64_t vocabulary = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0,
          context = 0;
  int64_t experts = 0, experts_per_token = 0,
          expert_intermediate = 0;  // 0 = every layer has one feed-forward part
  bool renormalise = true;          // the weights of a token's experts sum to 1
  std::vector<bool> dense_layers;   // which layers have one feed-forward part all the same; empty = none
  int64_t shared_experts = 0;       // what sees every token beside them is as wide as so many
  std::optional<GroupedRouting> grouped;
  std::optional<LatentConfig> latent;  // then head_dim is the width of a query and a key
  std::optional<IndexerConfig> indexer;
  int64_t mtp_layers = 0;  // behind the last, which predict further tokens: of those that are read, 0 or 1
  std::optional<Fp8Config> fp8;  // of the files that it was read from; or
  std::optional<FourBitConfig> four_bit;
  bool has_experts(int64_t layer) const {
    const auto at = static_cast<size_t>(layer);
    return experts > 0 && !(at < dense_layers.size() && dense_layers[at]);
  }
  double norm_epsilon = 1e-5;
  RopeConfig rope;
  std::optional<RopeConfig> local_rope;  // Gemma 3's sliding layers
  bool rotates_dynamically() const {
    return rope.scaling == RopeScaling::dynamic ||
           (local_rope && local_rope->scaling == RopeScaling::dynamic);
  }
  bool tied_head = false;
  bool attention_bias = false;  // of q, k and v
  bool output_bias = false;     // of o_proj
  bool mlp_bias = false;
  int64_t sliding_window = 0;        // 0 = none
  std::vector<bool> sliding_layers;  // which layers use the window; empty = none
  double attention_soft_cap = 0, final_soft_cap = 0;
  double attention_scale = 0;  // 0 = head_dim^-1/2
  double embedding_scale = 1;
  double residual_scale = 1;  // what attention and feed-forward add is multiplied with it (Granite)
  double logit_divisor = 1;
  std::vector<bool> unrotated_layers;  // which layers rotate no heads (SmolLM3); empty = none
  std::vector<int32_t> eos;            // all ids that end a text
  std::optional<int32_t> bos, pad;
};

}  // namespace retort
