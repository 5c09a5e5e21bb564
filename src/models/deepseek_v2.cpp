// DeepSeek V2 and V2-Lite (arXiv:2405.04434): scores of experts are a softmax, their weights its shares.
#include "models/deepseek.h"

namespace retort {
namespace {

constexpr auto kChoice = "topk_method";

DeepseekHabits habits() {
  DeepseekHabits usual;
  usual.dense_layers = 0, usual.experts = 64, usual.shared_experts = 2, usual.expert_width = 1407;
  usual.experts_per_token = 0;
  usual.routing = {.sigmoid = false, .judged_by = 1};
  usual.renormalise = false;
  return usual;
}

void from_hf(const HfConfig& config, ModelConfig& model) {
  auto usual = habits();
  const auto choice = config.text(kChoice).value_or("greedy");
  if (choice != "greedy" && choice != "group_limited_greedy")
    config.fail(kChoice, fmt::format("found '{}', which is not computed here; expected 'greedy' or "
                                     "'group_limited_greedy'",
                                     printable(choice)));
  usual.choice = choice.c_str();
  usual.reads_groups = choice != "greedy";
  if (usual.reads_groups) usual.routing.groups = usual.routing.groups_per_token = 0;  // must be there
  read_deepseek(config, model, usual);
  if (model.renormalise)
    config.fail("norm_topk_prob",
                "is true: transformers' class of this family takes no notice of it, and DeepSeek's own then "
                "leaves out routed_scaling_factor; expected false");
  if (!model.latent->interleaved) config.fail("rope_interleave", "expected true in this family");
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  read_deepseek_gguf(data, config, habits().routing);
  if (config.renormalise)
    data.fail(".expert_weights_norm",
              "is true: weights of experts that sum to 1 are not known of a deepseek2 "
              "whose scores are a softmax; expected false");
  if (config.grouped->groups > 1)
    data.fail(".expert_group_count",
              "llama.cpp judges a group of experts by its two best, DeepSeek V2 by its best; take the folder "
              "that the file was made from");
}

}  // namespace

const Family kDeepseekV2 = {
    .name = "deepseek_v2",
    .model_type = "deepseek_v2",
    .hf_architecture = "DeepseekV2ForCausalLM",
    .gguf = "deepseek2",
    .defaults = {.vocabulary = 102400, .heads = 32, .context = 2048, .bos = 1, .eos = 2},
    .from_hf = from_hf,
    .to_hf = deepseek_json,
    .owns_gguf = [](const GgufMetadata& data) { return !scores_by_sigmoids(data); },
    .from_gguf = from_gguf,
    .to_gguf = write_deepseek_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
