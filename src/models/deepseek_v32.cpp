// DeepSeek V3.2 (arXiv:2512.02556): V3 whose attention looks at the index_topk tokens that an indexer
// chooses. Up to so many tokens that is all of them, and the indexer is not asked.
#include "models/deepseek.h"

namespace retort {
namespace {

void from_hf(const HfConfig& config, ModelConfig& model) {
  read_deepseek(config, model);
  if (model.latent->q_rank == 0)
    config.fail("q_lora_rank", "the indexer reads it; expected a positive number");
  if (!model.latent->interleaved) config.fail("rope_interleave", "expected true in this family");
  const auto size = [&](const char* key, int64_t otherwise) {
    return config.names(key) ? config.required(key) : otherwise;
  };
  model.indexer = {size("index_n_heads", 64), size("index_head_dim", 128), size("index_topk", 2048)};
  require_words(config, "mlp_layer_types", mlp_layer_types(model));
  require_words(config, "layer_types",
                std::vector<std::string>(static_cast<size_t>(model.layers), "indexed_attention"));
  if (model.indexer->head_dim < model.latent->rope_dim)
    config.fail("index_head_dim", fmt::format("is {}, less than the {} numbers of it that are rotated",
                                              model.indexer->head_dim, model.latent->rope_dim));
  if (model.indexer->head_dim % 2 != 0) config.fail("index_head_dim", "expected an even width");
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = deepseek_json(config);
  json["index_n_heads"] = config.indexer->heads;
  json["index_head_dim"] = config.indexer->head_dim;
  json["index_topk"] = config.indexer->top;
  return json;
}

void from_gguf(const GgufMetadata& data, ModelConfig& config) {
  read_deepseek_gguf(data, config);
  config.indexer = {data.required(".attention.indexer.head_count"),
                    data.required(".attention.indexer.key_length"),
                    data.required(".attention.indexer.top_k")};
  if (config.latent->q_rank == 0)
    data.fail(".attention.q_lora_rank", "the indexer reads it; expected a positive number");
  if (config.indexer->head_dim < config.latent->rope_dim || config.indexer->head_dim % 2 != 0)
    data.fail(
        ".attention.indexer.key_length",
        fmt::format("is {}, of which {} numbers are rotated; expected an even width of at least so many",
                    config.indexer->head_dim, config.latent->rope_dim));
}

}  // namespace

const Family kDeepseekV32 = {
    .name = "deepseek_v32",
    .model_type = "deepseek_v32",
    .hf_architecture = "DeepseekV32ForCausalLM",
    .gguf = "deepseek32",
    .chat_template = "deepseek-v3.2",
    .defaults = {.vocabulary = 129280, .heads = 128, .context = 163840, .bos = 0, .eos = 1},
    .from_hf = from_hf,
    .to_hf = to_hf,
    .from_gguf = from_gguf,
    .to_gguf = write_deepseek_gguf,
    .gguf_refusal = deepseek_gguf_refusal,
    .build = build_deepseek};

}  // namespace retort
