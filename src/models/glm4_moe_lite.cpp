// GLM-4.7-Flash (`glm4_moe_lite`): DeepSeek V3's layer; a list says which layers have experts.
#include <algorithm>

#include "models/deepseek.h"

namespace retort {
namespace {

constexpr auto kTypes = "mlp_layer_types";
constexpr auto kDense = "first_k_dense_replace";

void read_layer_types(const HfConfig& config, ModelConfig& model) {
  const auto* types = config.find(kTypes);
  if (types && (!types->is_array() || static_cast<int64_t>(types->size()) != model.layers))
    config.fail(kTypes, fmt::format("expected a list of {} words", model.layers));
  for (int64_t i = 0; i < model.layers; ++i) {  // by habit the first layer is dense
    const auto type = types ? (*types)[static_cast<size_t>(i)] : Json(i == 0 ? "dense" : "sparse");
    if (type != "dense" && type != "sparse") config.fail(kTypes, "expected only 'dense' and 'sparse'");
    model.dense_layers[static_cast<size_t>(i)] = type == "dense";
  }
  const auto leading = std::ranges::count(model.dense_layers, true);
  if (const auto said = config.whole(kDense);
      said && (*said != leading || !std::ranges::is_sorted(model.dense_layers, std::greater())))
    config.fail(kDense, fmt::format("is {}, and transformers reads {} alone, by which {} layers are dense",
                                    *said, kTypes, leading));
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  DeepseekHabits usual;
  usual.q_rank = 768, usual.nope_dim = 192, usual.value_dim = 256;
  usual.experts = 64, usual.experts_per_token = 4, usual.expert_width = 1536;
  usual.routing = {.scale = 1.8};
  read_deepseek(config, model, usual);
  read_layer_types(config, model);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = deepseek_json(config);
  json["rope_interleave"] = config.latent->interleaved;
  json[kTypes] = mlp_layer_types(config);
  if (!std::ranges::is_sorted(config.dense_layers, std::greater())) json.erase(kDense);
  return json;
}

// GGUF says deepseek2. A file of llama.cpp's converter is told by its tokenizer, one of ours by a key of our
// own.
constexpr auto kOwnKey = "retort.model_type";
constexpr auto kName = "glm4_moe_lite";

bool owns_gguf(const GgufMetadata& data) {
  return scores_by_sigmoids(data) &&
         (data.text(kOwnKey).value_or("") == kName || data.text("tokenizer.ggml.pre").value_or("") == "glm4");
}

void to_gguf(const ModelConfig& config, GgufKeys& keys) {
  write_deepseek_gguf(config, keys);
  keys.add(kOwnKey, std::string(kName));
}

}  // namespace

const Family kGlm4MoeLite = {
    .name = kName,
    .model_type = kName,
    .hf_architecture = "Glm4MoeLiteForCausalLM",
    .gguf = "deepseek2",
    .defaults =
        {.vocabulary = 154880, .heads = 20, .context = 202752, .norm_epsilon = 1e-5, .bos = 0, .eos = 1},
    .from_hf = from_hf,
    .to_hf = to_hf,
    .owns_gguf = owns_gguf,
    .from_gguf = [](const GgufMetadata& data, ModelConfig& model) { read_deepseek_gguf(data, model); },
    .to_gguf = to_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
