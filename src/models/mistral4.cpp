// Mistral Small 4 (`mistral4`): DeepSeek's layer, whose experts are scored by a softmax and whose queries
// grow along a text (RopeConfig::query_beta). A folder has a layer's experts in two tensors.
#include "models/deepseek.h"
#include "models/rotary.h"

namespace retort {
namespace {

constexpr auto kRotated = "partial_rotary_factor";
constexpr auto kScaling = "rope_scaling";
constexpr auto kParameters = "rope_parameters";

// What Mistral4Config takes where config.json has no rotation at all.
RopeConfig usual_rope() {
  RopeConfig rope;
  rope.scaling = RopeScaling::yarn, rope.factor = 128, rope.original_context = 8192;
  rope.mscale = rope.mscale_all_dim = rope.attention_factor = 1;
  rope.query_beta = 0.1;
  return rope;
}

// Its class says which share of a whole head is rotated: the part that qk_rope_head_dim says as well.
void read_rotation(const HfConfig& config, ModelConfig& model) {
  auto& rope = model.rope;
  const bool there = config.find(kParameters) || config.find(kScaling) || config.names("rope_theta");
  rope = there ? read_growing_rope(config, model) : usual_rope();
  if (rope.partial != 1 && rotated_width(rope, model.head_dim) != model.latent->rope_dim)
    config.fail(kRotated, fmt::format("{:g} of a head of {} is not qk_rope_head_dim, {}", rope.partial,
                                      model.head_dim, model.latent->rope_dim));
  rope.partial = 1;
  if (rope.scaling == RopeScaling::none)
    config.fail(kParameters,
                "transformers' class of this family cannot rotate without scaling; expected "
                "rope_type yarn");
  model.attention_scale = latent_scale(rope, model.head_dim);
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  DeepseekHabits usual;
  usual.q_rank = 1024, usual.kv_rank = 256, usual.nope_dim = 64;
  usual.dense_layers = 0, usual.experts = 128, usual.experts_per_token = 4;
  usual.routing = {.sigmoid = false};
  usual.choice = "greedy";
  read_deepseek(config, model, usual);
  read_rotation(config, model);
  if (config.find("topk_method") && model.grouped->groups > model.grouped->groups_per_token)
    config.fail("topk_method", "is greedy, and n_group says that groups of experts are judged; expected one");
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = deepseek_json(config);
  json.erase("topk_method");
  json["head_dim"] = config.head_dim;
  json["rope_interleave"] = config.latent->interleaved;
  for (const auto* section : {kParameters, kScaling})
    json[section][kRotated] =
        static_cast<double>(config.latent->rope_dim) / static_cast<double>(config.head_dim);
  return json;
}

}  // namespace

const Family kMistral4 = {
    .name = "mistral4",
    .model_type = "mistral4",
    .hf_architecture = "Mistral4ForCausalLM",
    .gguf = "mistral4",
    .defaults = {.vocabulary = 131072, .heads = 32, .context = 1048576, .bos = 1, .eos = 2, .pad = 11},
    .partial_rotation = true,
    .stacked_experts = true,
    .from_hf = from_hf,
    .to_hf = to_hf,
    .from_gguf = [](const GgufMetadata& data,
                    ModelConfig& model) { read_deepseek_gguf(data, model, {.sigmoid = false}); },
    .to_gguf = write_deepseek_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
