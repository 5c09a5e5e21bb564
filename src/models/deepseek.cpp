#include "models/deepseek.h"

#include <algorithm>
#include <cmath>

#include "models/read_config.h"

namespace retort {
namespace {

int64_t size_or(const HfConfig& config, const char* key, int64_t otherwise) {
  return config.names(key) || otherwise == 0 ? config.required(key) : otherwise;
}

void require_word(const HfConfig& config, const char* key, const std::string& expected) {
  const auto found = config.text(key).value_or(expected);
  if (found != expected)
    config.fail(key,
                "found '" + printable(found) + "', which is not computed here; expected '" + expected + "'");
}

void read_latent(const HfConfig& config, ModelConfig& model, const DeepseekHabits& usual) {
  LatentConfig latent;
  constexpr auto kQueries = "q_lora_rank";
  latent.q_rank = config.names(kQueries) ? config.whole(kQueries).value_or(0) : usual.q_rank;
  latent.kv_rank = size_or(config, "kv_lora_rank", usual.kv_rank);
  latent.nope_dim = size_or(config, "qk_nope_head_dim", usual.nope_dim);
  latent.rope_dim = size_or(config, "qk_rope_head_dim", usual.rope_dim);
  latent.value_dim = size_or(config, "v_head_dim", usual.value_dim);
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
  // transformers makes attention's product larger for it under every kind of scaling.
  const auto section = config.section(config.find("rope_parameters") ? "rope_parameters" : "rope_scaling");
  if (section && rope.scaling != RopeScaling::yarn && rope.scaling != RopeScaling::none &&
      section->number("mscale_all_dim").value_or(0) != 0)
    section->fail("mscale_all_dim", "is known with yarn only");
  model.attention_scale = latent_scale(rope, model.head_dim);
}

void read_sparse(const HfConfig& config, ModelConfig& model, const DeepseekHabits& usual) {
  const auto dense = config.whole("first_k_dense_replace").value_or(usual.dense_layers);
  for (int64_t i = 0; i < model.layers; ++i) model.dense_layers.push_back(i < dense);
  model.experts = size_or(config, "n_routed_experts", usual.experts);
  model.experts_per_token = size_or(config, "num_experts_per_tok", usual.experts_per_token);
  model.expert_intermediate = size_or(config, "moe_intermediate_size", usual.expert_width);
  constexpr auto kShared = "n_shared_experts";  // null: none
  model.shared_experts = config.names(kShared) ? config.whole(kShared).value_or(0) : usual.shared_experts;
  model.renormalise = config.truth("norm_topk_prob", usual.renormalise);
  auto routing = usual.routing;
  if (usual.reads_groups) {
    routing.groups = size_or(config, "n_group", routing.groups);
    routing.groups_per_token = size_or(config, "topk_group", routing.groups_per_token);
  }
  routing.scale = config.number("routed_scaling_factor").value_or(routing.scale);
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
  require_word(config, "scoring_func", routing.sigmoid ? "sigmoid" : "softmax");
  require_word(config, "topk_method", usual.choice);
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
  return h + mlp.forward(normed, pass, pass.layer_result);
}

std::shared_ptr<const Rotary> DeepseekModel::shared_rotary(const ModelConfig& of) {
  return std::make_shared<Rotary>(of.rope, of.latent.value().rope_dim, of.context);
}

DeepseekModel::DeepseekModel(const Parts& parts, const std::shared_ptr<const Rotary>& rotary)
    : Stack<DeepseekLayer>(parts, 0, [&](int64_t index) { return DeepseekLayer(parts, index, rotary); }) {
  if (config.mtp_layers == 0) return;
  const auto index = config.layers, width = config.hidden;
  mtp_.emplace(Mtp{parts.norm({index, Role::mtp_token_norm}, width),
                   parts.norm({index, Role::mtp_hidden_norm}, width),
                   parts.linear({index, Role::mtp_join}, width, 2 * width),
                   DeepseekLayer(parts, index, rotary), parts.norm({index, Role::mtp_norm}, width)});
  auto& mtp = *mtp_;
  list(mtp.enorm), list(mtp.hnorm), list(mtp.eh_proj);
  mtp.layer.norms([&](Norm& part) { list(part); });
  mtp.layer.vectors([&](const TensorPlace& place, Tensor& vector) { list(place, vector); });
  mtp.layer.linears([&](Linear& linear) { list(linear); });
  list(mtp.norm);
}

// The embedding stands in front of the hidden state, as in the published weights; the paper writes them the
// other way round.
Tensor DeepseekModel::mtp_states(const Tensor& before, const Pass& pass) const {
  if (!mtp_) return Model::mtp_states(before, pass);
  auto looked_up = pass;
  looked_up.gradients = nullptr;  // a sink takes one look-up, that of the first layer
  const auto next = rms_norm(embed(looked_up), mtp_->enorm);
  auto whole = pass;
  whole.rows = Tensor();
  const auto joined = linear(at::cat({next, rms_norm(before, mtp_->hnorm)}, 1), mtp_->eh_proj, whole);
  return rms_norm(mtp_->layer.forward(joined, pass), mtp_->norm);
}

std::unique_ptr<Model> build_deepseek(const Parts& parts) { return std::make_unique<DeepseekModel>(parts); }

void read_deepseek(const HfConfig& config, ModelConfig& model, const DeepseekHabits& usual) {
  model.attention_bias = model.output_bias = config.truth("attention_bias", false);
  read_latent(config, model, usual);
  read_rotation(config, model);
  read_sparse(config, model, usual);
}

void require_words(const HfConfig& config, const char* key, const std::vector<std::string>& expected) {
  const auto* list = config.find(key);
  if (list && *list != Json(expected))
    config.fail(key, fmt::format("expected {} words, the first '{}'", expected.size(),
                                 expected.empty() ? "" : expected.front()));
}

std::vector<std::string> mlp_layer_types(const ModelConfig& config) {
  std::vector<std::string> types;
  for (int64_t i = 0; i < config.layers; ++i) types.emplace_back(config.has_experts(i) ? "sparse" : "dense");
  return types;
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
  json["scoring_func"] = config.grouped->sigmoid ? "sigmoid" : "softmax";
  json["topk_method"] = config.grouped->sigmoid      ? "noaux_tc"
                        : config.grouped->groups > 1 ? "group_limited_greedy"
                                                     : "greedy";
  json["num_nextn_predict_layers"] = config.mtp_layers;  // what is not read is left out of what is written
  add_hf_rope(config, json);
  return json;
}

}  // namespace retort
