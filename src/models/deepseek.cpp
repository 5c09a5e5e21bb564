#include "models/deepseek.h"

#include <algorithm>
#include <cmath>

#include "models/read_config.h"

namespace retort {
namespace {

// What transformers' classes take for a size that config.json leaves out: those of the 671B models.
int64_t size_or(const HfConfig& config, const char* key, int64_t otherwise) {
  return config.names(key) ? config.required(key) : otherwise;
}

void require_word(const HfConfig& config, const char* key, const std::string& expected) {
  const auto found = config.text(key).value_or(expected);
  if (found != expected)
    config.fail(key,
                "found '" + printable(found) + "', which is not computed here; expected '" + expected + "'");
}

void read_latent(const HfConfig& config, ModelConfig& model) {
  LatentConfig latent;
  constexpr auto kQueries = "q_lora_rank";
  latent.q_rank = config.names(kQueries) ? config.whole(kQueries).value_or(0) : 1536;
  latent.kv_rank = size_or(config, "kv_lora_rank", 512);
  latent.nope_dim = size_or(config, "qk_nope_head_dim", 128);
  latent.rope_dim = size_or(config, "qk_rope_head_dim", 64);
  latent.value_dim = size_or(config, "v_head_dim", 128);
  latent.interleaved = config.truth("rope_interleave", true);
  if (latent.rope_dim % 2 != 0) config.fail("qk_rope_head_dim", "expected an even width");
  if (latent.nope_dim % 2 != 0) config.fail("qk_nope_head_dim", "expected an even width");
  if (latent.value_dim % 2 != 0) config.fail("v_head_dim", "expected an even width");
  if (model.kv_heads != model.heads)
    config.fail("num_key_value_heads",
                fmt::format("is {}; latent attention has a key and a value for each of {} heads",
                            model.kv_heads, model.heads));
  model.latent = latent;
  model.head_dim = latent.nope_dim + latent.rope_dim;
}

void read_rotation(const HfConfig& config, ModelConfig& model) {
  model.rope = read_rope(config, model);
  const auto& rope = model.rope;
  if (rope.scaling == RopeScaling::longrope)
    config.fail("rope_scaling", "longrope is not known of this family; expected yarn or none");
  model.attention_scale = latent_scale(rope, model.head_dim);
}

void read_sparse(const HfConfig& config, ModelConfig& model) {
  const auto dense = config.whole("first_k_dense_replace").value_or(3);
  for (int64_t i = 0; i < model.layers; ++i) model.dense_layers.push_back(i < dense);
  model.experts = size_or(config, "n_routed_experts", 256);
  model.experts_per_token = size_or(config, "num_experts_per_tok", 8);
  model.expert_intermediate = size_or(config, "moe_intermediate_size", 2048);
  model.shared_experts = config.whole("n_shared_experts").value_or(1);
  model.renormalise = config.truth("norm_topk_prob", true);
  GroupedRouting routing;
  routing.groups = size_or(config, "n_group", 8);
  routing.groups_per_token = size_or(config, "topk_group", 4);
  routing.scale = config.number("routed_scaling_factor").value_or(2.5);
  model.grouped = routing;
  if (model.experts > kMostExperts)
    config.fail("n_routed_experts", fmt::format("more than {} experts", kMostExperts));
  if (model.experts % routing.groups != 0 || model.experts / routing.groups < 2)
    config.fail("n_group", fmt::format("{} experts do not divide into {} groups of two or more",
                                       model.experts, routing.groups));
  if (routing.groups_per_token > routing.groups)
    config.fail("topk_group", fmt::format("is {}, of {} groups", routing.groups_per_token, routing.groups));
  const auto reachable = model.experts / routing.groups * routing.groups_per_token;
  if (model.experts_per_token > reachable)
    config.fail("num_experts_per_tok",
                fmt::format("is {}, of {} experts in topk_group groups", model.experts_per_token, reachable));
  require_word(config, "scoring_func", "sigmoid");
  require_word(config, "topk_method", "noaux_tc");
  if (config.whole("moe_layer_freq").value_or(1) != 1)
    config.fail("moe_layer_freq", "layers in turn dense and sparse are not known of this family; expected 1");
}

}  // namespace

double latent_scale(const RopeConfig& rope, int64_t head_dim) {
  double magnitude = 1;
  if (rope.scaling == RopeScaling::yarn && rope.mscale_all_dim != 0 && rope.factor > 1)
    magnitude = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1;
  return magnitude * magnitude / std::sqrt(static_cast<double>(head_dim));
}

DeepseekLayer::DeepseekLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
    : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden)),
      post_attention_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden)),
      self_attn(parts, index, std::move(rotary)),
      mlp(parts, index) {}

Model::Halfway DeepseekLayer::attend(const Tensor& x, const Pass& pass) const {
  auto [h, normed] = add_rms_norm(keep_rows(x, pass), self_attn.forward(rms_norm(x, input_layernorm), pass),
                                  post_attention_layernorm);
  return {std::move(h), std::move(normed)};
}

Tensor DeepseekLayer::forward(const Tensor& x, const Pass& pass) const {  // [N,E]
  const auto [h, normed] = attend(x, pass);
  return h + mlp.forward(normed, pass);
}

std::unique_ptr<Model> build_deepseek(const Parts& parts) {
  const auto& config = parts.config;
  const auto rotary = std::make_shared<Rotary>(config.rope, config.latent.value().rope_dim, config.context);
  return std::make_unique<Stack<DeepseekLayer>>(
      parts, 0, [&](int64_t index) { return DeepseekLayer(parts, index, rotary); });
}

void read_deepseek(const HfConfig& config, ModelConfig& model) {
  model.attention_bias = model.output_bias = config.truth("attention_bias", false);
  read_latent(config, model);
  read_rotation(config, model);
  read_sparse(config, model);
}

OrderedJson deepseek_json(const ModelConfig& config) {
  const auto& latent = config.latent.value();
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  json["head_dim"] = latent.rope_dim;  // as transformers computes it: what the rotation is as wide as
  json["q_lora_rank"] = latent.q_rank > 0 ? OrderedJson(latent.q_rank) : OrderedJson();
  json["kv_lora_rank"] = latent.kv_rank;
  json["qk_nope_head_dim"] = latent.nope_dim;
  json["qk_rope_head_dim"] = latent.rope_dim;
  json["v_head_dim"] = latent.value_dim;
  json["attention_bias"] = config.attention_bias;
  // They stand at the front, also of what a pruned model keeps.
  json["first_k_dense_replace"] = std::ranges::count(config.dense_layers, true);
  json["moe_layer_freq"] = 1;
  json["n_routed_experts"] = config.experts;
  json["n_shared_experts"] = config.shared_experts;
  json["num_experts_per_tok"] = config.experts_per_token;
  json["moe_intermediate_size"] = config.expert_intermediate;
  json["norm_topk_prob"] = config.renormalise;
  json["n_group"] = config.grouped->groups;
  json["topk_group"] = config.grouped->groups_per_token;
  json["routed_scaling_factor"] = config.grouped->scale;
  json["scoring_func"] = "sigmoid";
  json["topk_method"] = "noaux_tc";
  json["num_nextn_predict_layers"] = 0;  // layers that predict further tokens are left out of what is written
  add_hf_rope(config, json);
  return json;
}

}  // namespace retort
