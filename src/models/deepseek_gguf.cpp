// DeepSeek V2, V3 and V3.2, GLM-4.7-Flash and Mistral Small 4 as llama.cpp's architectures deepseek2,
// deepseek32 and mistral4 (its llama-model.cpp, models/deepseek2.cpp, deepseek32.cpp and mistral4.cpp;
// conversion/deepseek.py, glm.py and mistral3.py).
#include <algorithm>
#include <bit>
#include <cmath>

#include "models/deepseek.h"
#include "models/rotary.h"

namespace retort {
namespace {

constexpr int64_t kSoftmax = 1, kSigmoid = 2;
constexpr auto kScores = ".expert_gating_func";
constexpr auto kGrowth = ".attention.temperature_scale";
constexpr auto kGrowthPlaces = ".attention.temperature_length";
constexpr auto kLogMultiplier = ".rope.scaling.yarn_log_multiplier";
constexpr auto kAttentionFactor = ".rope.scaling.attn_factor";

double yarn_magnitude(const RopeConfig& rope, double mscale) {
  return rope.factor > 1 ? 0.1 * mscale * std::log(rope.factor) + 1 : 1;
}

// What llama.cpp multiplies rotated heads with, and then the product of attention once more: a file says
// attn_factor so that this comes to 1 (llama-context.cpp).
double own_factor(const Family& family, const RopeConfig& rope) {
  const auto all = rope.mscale_all_dim;
  if (all == 0) return yarn_magnitude(rope, 1);
  const bool any_scale = family.gguf == std::string("deepseek2");
  return any_scale ? 1 : yarn_magnitude(rope, 1) / yarn_magnitude(rope, all);
}

void read_heads(const GgufMetadata& data, ModelConfig& config) {
  LatentConfig latent;
  latent.q_rank = data.whole(".attention.q_lora_rank").value_or(0);
  latent.kv_rank = data.required(".attention.kv_lora_rank");
  latent.rope_dim = data.required(".rope.dimension_count");
  // Files from before the heads were split say the widths of whole keys and values themselves.
  const bool split = data.whole(".attention.key_length_mla").has_value();
  const auto* key = split ? ".attention.key_length_mla" : ".attention.key_length";
  const auto* value = split ? ".attention.value_length_mla" : ".attention.value_length";
  config.kv_heads = config.heads;
  config.head_dim = data.required(key);
  latent.value_dim = data.required(value);
  latent.nope_dim = config.head_dim - latent.rope_dim;
  if (latent.nope_dim <= 0 || latent.nope_dim % 2 != 0)
    data.fail(key, fmt::format("is {}, of which {} are rotated; expected an even number more",
                               config.head_dim, latent.rope_dim));
  if (latent.rope_dim % 2 != 0) data.fail(".rope.dimension_count", "expected an even width");
  if (latent.value_dim % 2 != 0) data.fail(value, "expected an even width");
  config.latent = latent;
}

void read_scaling(const GgufMetadata& data, ModelConfig& config) {
  auto& rope = config.rope;
  if (rope.scaling == RopeScaling::longrope)
    data.fail(".rope.scaling.type", "longrope is not known of this family; expected yarn or none");
  if (rope.scaling == RopeScaling::linear)
    data.fail(".rope.scaling.type", "llama.cpp's own product under linear scaling is not computed here");
  if (rope.scaling == RopeScaling::yarn) {
    // The file holds a tenth of it in fp32.
    const auto tenth = static_cast<float>(data.number(kLogMultiplier).value_or(0));
    rope.mscale_all_dim = std::round(static_cast<double>(tenth) * 1e7) / 1e6;
    rope.mscale = rope.mscale_all_dim;
    const auto factor = data.number(kAttentionFactor).value_or(1) * own_factor(family_of(config), rope);
    if (std::abs(factor - 1) > 1e-5)
      data.fail(kAttentionFactor, fmt::format("makes rotated heads {:.6g} times as large, which is not "
                                              "computed here; expected 1",
                                              factor));
    rope.attention_factor = 1;
  }
  config.attention_scale = latent_scale(rope, config.head_dim);
}

// Queries that grow along a text.
void read_growth(const GgufMetadata& data, ModelConfig& config) {
  const auto beta = data.number(kGrowth).value_or(0);
  auto& rope = config.rope;
  rope.query_beta = beta;
  if (beta == 0) return;
  const auto places = data.required(kGrowthPlaces);
  if (rope.original_context != 0 && rope.original_context != places)
    data.fail(kGrowthPlaces,
              fmt::format("is {}, and the rotation's original context is {}; expected the same", places,
                          rope.original_context));
  rope.original_context = places;
}

// llama.cpp takes models of these sizes for those that have no q_lora_rank.
bool has_a_lite_size(const ModelConfig& config) {
  return config.layers == 26 || config.layers == 27 || (config.layers == 48 && config.vocabulary == 128256);
}

}  // namespace

bool scores_by_sigmoids(const GgufMetadata& data) {
  const auto kind = data.whole(kScores).value_or(0);
  if (kind == kSoftmax || kind == kSigmoid) return kind == kSigmoid;
  if (kind != 0)
    data.fail(kScores,
              fmt::format("is {}, which is not computed here; expected a softmax (1) or sigmoids (2)", kind));
  // A file that does not say it: llama.cpp knows GLM-4.7-Flash by its size, and takes any other for a V2.
  const auto layers = data.whole(".block_count").value_or(0);
  return (layers == 47 || layers == 48) && data.whole(".vocab_size").value_or(0) == 154880;
}

void read_deepseek_gguf(const GgufMetadata& data, ModelConfig& config, const GroupedRouting& usual) {
  // The last layers of the file predict further tokens.
  const auto beyond = data.whole(".nextn_predict_layers").value_or(0);
  if (beyond >= config.layers)
    data.fail(".nextn_predict_layers", fmt::format("is {}, of {} layers", beyond, config.layers));
  config.layers -= beyond;
  read_heads(data, config);
  read_scaling(data, config);
  read_gguf_experts(data, config);
  if (scores_by_sigmoids(data) != usual.sigmoid)
    data.fail(kScores, usual.sigmoid
                           ? "a softmax (1), or missing: of this architecture only models of sigmoid "
                             "scores (2) are computed here"
                           : "sigmoids (2): of this architecture only models whose scores are a "
                             "softmax (1) are computed here");
  config.renormalise = data.truth(".expert_weights_norm").value_or(false);
  config.shared_experts = data.whole(".expert_shared_count").value_or(0);
  auto routing = usual;
  routing.groups = routing.groups_per_token = 1;
  const auto groups = data.whole(".expert_group_count").value_or(1);
  if (groups > 1) {
    routing.groups = groups;
    routing.groups_per_token = data.required(".expert_group_used_count");
    if (config.experts % groups != 0 || config.experts / groups < 2)
      data.fail(".expert_group_count", fmt::format("{} experts do not divide into {} groups of two or more",
                                                   config.experts, groups));
    if (routing.groups_per_token > groups ||
        config.experts / groups * routing.groups_per_token < config.experts_per_token)
      data.fail(".expert_group_used_count",
                fmt::format("is {}, of {} groups; {} experts are chosen", routing.groups_per_token, groups,
                            config.experts_per_token));
  }
  const auto scale = data.number(".expert_weights_scale").value_or(1);
  routing.scale = scale == 0 ? 1 : scale;  // llama.cpp's word for none
  config.grouped = routing;
  const bool grows = family_of(config).gguf == std::string("mistral4");
  if (!grows && data.number(kGrowth).value_or(0) != 0)
    data.fail(kGrowth, "queries that grow along a text are not known of this family; expected none");
  if (grows) read_growth(data, config);
  const auto dense = data.whole(".leading_dense_block_count").value_or(0);
  for (int64_t i = 0; i < config.layers; ++i) config.dense_layers.push_back(i < dense);
}

void write_deepseek_gguf(const ModelConfig& config, GgufKeys& keys) {
  const auto& latent = *config.latent;
  keys.experts();
  keys.whole(".expert_feed_forward_length", config.expert_intermediate);
  keys.whole(".expert_shared_count", config.shared_experts);
  keys.number(".expert_weights_scale", config.grouped->scale);
  keys.add(".expert_weights_norm", config.renormalise);
  keys.whole(kScores, config.grouped->sigmoid ? kSigmoid : kSoftmax);
  if (config.grouped->groups > config.grouped->groups_per_token) {
    keys.whole(".expert_group_count", config.grouped->groups);
    keys.whole(".expert_group_used_count", config.grouped->groups_per_token);
  }
  keys.whole(".leading_dense_block_count", std::ranges::count(config.dense_layers, true));
  keys.whole(".attention.head_count", config.heads);
  keys.whole(".attention.head_count_kv", 1);  // what is cached is one key for all heads
  keys.number(".attention.layer_norm_rms_epsilon", config.norm_epsilon);
  keys.whole(".attention.q_lora_rank", latent.q_rank);
  keys.whole(".attention.kv_lora_rank", latent.kv_rank);
  keys.whole(".attention.key_length", latent.kv_rank + latent.rope_dim);
  keys.whole(".attention.value_length", latent.kv_rank);
  keys.whole(".attention.key_length_mla", config.head_dim);
  keys.whole(".attention.value_length_mla", latent.value_dim);
  keys.whole(".rope.dimension_count", latent.rope_dim);
  keys.number(".rope.freq_base", config.rope.theta);
  keys.whole(".vocab_size", config.vocabulary);
  if (config.indexer) {
    keys.whole(".attention.indexer.head_count", config.indexer->heads);
    keys.whole(".attention.indexer.key_length", config.indexer->head_dim);
    keys.whole(".attention.indexer.top_k", config.indexer->top);
  }
  const auto& rope = config.rope;
  if (const auto beta = rope.query_beta.value_or(0); beta != 0) {
    keys.number(kGrowth, beta);
    keys.whole(kGrowthPlaces, rope.original_context);
  }
  if (rope.scaling != RopeScaling::yarn) return;
  keys.add(".rope.scaling.type", std::string("yarn"));
  keys.number(".rope.scaling.factor", rope.factor);
  keys.whole(".rope.scaling.original_context_length", rope.original_context);
  keys.number(".rope.scaling.yarn_beta_fast", rope.beta_fast);
  keys.number(".rope.scaling.yarn_beta_slow", rope.beta_slow);
  if (rope.mscale_all_dim != 0) keys.number(kLogMultiplier, 0.1 * rope.mscale_all_dim);
  if (const auto factor = own_factor(family_of(config), rope); factor != 1)
    keys.number(kAttentionFactor, 1 / factor);
}

std::string deepseek_gguf_refusal(const ModelConfig& config) {
  const auto* architecture = family_of(config).gguf;
  const auto& latent = *config.latent;
  if (config.attention_bias || config.output_bias)
    return fmt::format("llama.cpp reads no biases of attention in its architecture {}", architecture);
  if (!latent.interleaved)
    return fmt::format(
        "llama.cpp rotates pairs that stand next to each other in its architecture {}; this "
        "model's are halves apart (rope_interleave: false)",
        architecture);
  if (config.rope.scaling == RopeScaling::linear)
    return fmt::format(
        "llama.cpp makes attention's product larger under linear rope scaling in its architecture {}, which "
        "this model does not",
        architecture);
  if (config.rope.scaling == RopeScaling::yarn &&
      std::abs(rotary_attention_factor(config.rope, config.context) - 1) > 1e-6)
    return fmt::format(
        "this model's yarn makes rotated heads {:.4g} times as large (attention_factor, or "
        "mscale without mscale_all_dim); llama.cpp would do so with the whole product in its "
        "architecture {}",
        rotary_attention_factor(config.rope, config.context), architecture);
  if (config.shared_experts == 0)
    return fmt::format("llama.cpp wants an expert that sees every token in its architecture {}",
                       architecture);
  if (latent.q_rank > 0 && has_a_lite_size(config) && !config.indexer)
    return fmt::format(
        "llama.cpp takes a {} of {} layers for DeepSeek V2 Lite or another that has no q_lora_rank",
        architecture, config.layers);
  if (!std::ranges::is_sorted(config.dense_layers, std::greater()))
    return fmt::format("llama.cpp wants the layers without experts in front in its architecture {}",
                       architecture);
  const auto& routing = *config.grouped;
  if (routing.judged_by == 1 && routing.groups > routing.groups_per_token)
    return "llama.cpp judges a group of experts by its two best, this model by its best (topk_method: "
           "group_limited_greedy)";
  if (config.indexer) {
    const auto width = config.indexer->head_dim;
    if (width < 64 || !std::has_single_bit(static_cast<uint64_t>(width)))
      return fmt::format(
          "llama.cpp turns the indexer's heads by a Hadamard matrix of 64, 128, ... rows; this "
          "model's are {} wide (index_head_dim)",
          width);
  }
  return "";
}

}  // namespace retort
