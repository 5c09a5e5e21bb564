#include "quant/mixture.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

namespace retort {
namespace {

using T = WeightType;

constexpr Mixture kMixtures[] = {
    {"F32", 0, T::f32},        {"F16", 1, T::f16},      {"Q4_0", 2, T::q4_0},    {"Q4_1", 3, T::q4_1},
    {"Q8_0", 7, T::q8_0},      {"Q5_0", 8, T::q5_0},    {"Q5_1", 9, T::q5_1},    {"Q2_K", 10, T::q2_k},
    {"Q3_K_S", 11, T::q3_k},   {"Q3_K_M", 12, T::q3_k}, {"Q3_K_L", 13, T::q3_k}, {"Q4_K_S", 14, T::q4_k},
    {"Q4_K_M", 15, T::q4_k},   {"Q5_K_S", 16, T::q5_k}, {"Q5_K_M", 17, T::q5_k}, {"Q6_K", 18, T::q6_k},
    {"IQ4_NL", 25, T::iq4_nl}, {"BF16", 32, T::bf16},
};

// Part of a name that keeps a tensor in F32: small, or sensitive.
constexpr std::array<std::string_view, 12> kKeptParts = {
    "_norm.weight", "ffn_gate_inp.weight",   "ffn_gate_tid2eid.weight", "altup",
    "laurel",       "per_layer_model_proj",  "position_embd",           "token_types",
    "ssm_conv1d",   "shortconv.conv.weight", "indexer.k_proj.weight",   "attn_rel_b.weight"};

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

// i of "blk.i.", -1 for others.
int64_t layer_of(std::string_view name) {
  int64_t layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

// The first and last eighth of the layers and every third between.
bool gets_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

WeightType attention_value_type(std::string_view mixture, WeightType type, const MixtureModel& model,
                                int64_t layer) {
  const int64_t group = model.heads / std::max<int64_t>(1, model.kv_heads);
  if (mixture == "Q2_K") type = group >= 4 ? T::q4_k : T::q3_k;
  else if (mixture == "Q3_K_M") type = layer < 2 ? T::q5_k : T::q4_k;
  else if (mixture == "Q3_K_L") type = T::q5_k;
  else if (mixture == "IQ4_NL" && group >= 4) type = T::q5_k;
  else if ((mixture == "Q4_K_M" || mixture == "Q5_K_M") && gets_more_bits(layer, model.layers))
    type = T::q6_k;
  else if (mixture == "Q4_K_S" && layer < 4) type = T::q5_k;
  // llama.cpp's "70B" models: eight query heads a value head, so the tensor is small
  const bool of_70b =
      model.layers == 80 &&
      (model.architecture == "qwen2" || (model.architecture == "llama" && model.heads != model.kv_heads));
  if (of_70b && (type == T::q3_k || type == T::q4_k)) type = T::q5_k;
  return model.experts == 8 ? T::q8_0 : type;
}

WeightType feed_forward_down_type(std::string_view mixture, WeightType type, const MixtureModel& model,
                                  int64_t layer) {
  const int64_t layers = model.layers;
  if (mixture == "Q2_K") return T::q3_k;
  if (mixture == "Q3_K_M") return layer < layers / 16 ? T::q5_k : T::q4_k;
  if (mixture == "Q3_K_L") return T::q5_k;
  if ((mixture == "Q4_K_M" || mixture == "Q5_K_M") && gets_more_bits(layer, layers)) return T::q6_k;
  if ((mixture == "IQ4_NL" || mixture == "Q4_K_S") && layer < layers / 8) return T::q5_k;
  return type;
}

WeightType attention_output_type(std::string_view mixture, WeightType type, const MixtureModel& model) {
  if (model.experts == 8) {
    constexpr std::array<std::string_view, 6> raised = {"Q2_K",   "Q3_K_S", "Q3_K_M",
                                                        "IQ4_NL", "Q4_K_S", "Q4_K_M"};
    return std::ranges::find(raised, mixture) != raised.end() ? T::q5_k : type;
  }
  if (mixture == "Q2_K") return T::q3_k;
  if (mixture == "Q3_K_M") return T::q4_k;
  if (mixture == "Q3_K_L") return T::q5_k;
  return type;
}

}  // namespace

std::span<const Mixture> all_mixtures() { return kMixtures; }

std::optional<Mixture> mixture_from_name(std::string_view name) {
  std::string upper(name);
  std::ranges::transform(upper, upper.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (upper == "Q3_K" || upper == "Q4_K" || upper == "Q5_K") upper += "_M";
  const auto* found = std::ranges::find(kMixtures, upper, &Mixture::name);
  if (found == std::end(kMixtures)) return std::nullopt;
  return *found;
}

bool is_quantizable(const MixtureTensor& tensor) {
  const bool is_matrix = tensor.shape.size() > 1 && std::any_of(tensor.shape.begin(), tensor.shape.end() - 1,
                                                                [](int64_t extent) { return extent > 1; });
  if (!is_matrix || !tensor.name.ends_with("weight")) return false;
  return std::ranges::none_of(kKeptParts, [&](std::string_view part) { return contains(tensor.name, part); });
}

WeightType preferred_type(const Mixture& mixture, const MixtureModel& model, const MixtureTensor& tensor) {
  if (!is_quantizable(tensor)) return T::f32;
  WeightType type = mixture.main_type;
  if (!is_block_quantized(type)) return type;
  const auto name = tensor.name;
  const int64_t columns = tensor.shape.back(), layer = layer_of(name);
  const bool is_head = name == "output.weight" || (model.tied_head && name == "token_embd.weight");
  if (is_head) {
    if (columns % type_info(type).block_elements != 0) type = T::q8_0;
    else if (type != T::q8_0) type = T::q6_k;
  } else if (contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight") ||
             contains(name, "attn_kv_b.weight")) {
    type = attention_value_type(mixture.name, type, model, layer);
  } else if (contains(name, "attn_k.weight")) {
    if (model.experts == 8) type = T::q8_0;
  } else if (contains(name, "ffn_down")) {
    type = feed_forward_down_type(mixture.name, type, model, layer);
  } else if (contains(name, "attn_output.weight")) {
    type = attention_output_type(mixture.name, type, model);
  }
  return type;
}

WeightType choose_type(const Mixture& mixture, const MixtureModel& model, const MixtureTensor& tensor) {
  return fitting_type(preferred_type(mixture, model, tensor), tensor.shape.back());
}

}  // namespace retort
