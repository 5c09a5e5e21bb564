// DeepSeek V3, R1 and V3.1 (arXiv:2412.19437).
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
    .hf_architecture = "DeepseekV3ForCausalLM",
    .gguf = "deepseek2",
    .defaults = {.vocabulary = 129280, .heads = 128, .context = 4096, .bos = 0, .eos = 1},
    .from_hf = read_deepseek,
    .to_hf = to_hf,
    .from_gguf = read_deepseek_gguf,
    .to_gguf = write_deepseek_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
