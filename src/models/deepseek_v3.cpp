// DeepSeek V3, R1 and V3.1 (arXiv:2412.19437); Moonlight (arXiv:2502.16982) says this family too. Kimi K2
// (arXiv:2507.20534) is the same model under a model_type of its own, for which transformers has no class;
// what is written of it says deepseek_v3, as transformers reads the text part of Kimi K2.5.
#include "models/deepseek.h"

namespace retort {
namespace {

OrderedJson to_hf(const ModelConfig& config) {
  auto json = deepseek_json(config);
  json["rope_interleave"] = config.latent->interleaved;
  return json;
}

}  // namespace

const Family kDeepseekV3 = {
    .name = "deepseek_v3",
    .model_type = "deepseek_v3",
    .other_model_type = "kimi_k2",
    .hf_architecture = "DeepseekV3ForCausalLM",
    .gguf = "deepseek2",
    .defaults = {.vocabulary = 129280, .heads = 128, .context = 4096, .bos = 0, .eos = 1},
    .from_hf = [](const HfConfig& config, ModelConfig& model) { read_deepseek(config, model); },
    .to_hf = to_hf,
    .from_gguf = [](const GgufMetadata& data, ModelConfig& model) { read_deepseek_gguf(data, model); },
    .to_gguf = write_deepseek_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
