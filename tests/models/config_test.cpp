// config.json: what an absent key means in each family, and what is written for others to read.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/families.h"
#include "models/model.h"
#include "models/read_config.h"
#include "models/rotary.h"
#include "where.h"  // tests

namespace retort {
namespace {

// The keys that give a model its size; everything else is left to the family's defaults.
Json smallest(const std::string& model_type) {
  return {{"model_type", model_type}, {"vocab_size", 40000},       {"hidden_size", 512},
          {"num_hidden_layers", 6},   {"num_attention_heads", 32}, {"intermediate_size", 64},
          {"num_experts", 4},         {"num_experts_per_tok", 2},  {"moe_intermediate_size", 32}};
}

ModelConfig read(const Json& json, bool has_head = true) {
  return config_from_hf(json, "config.json", has_head);
}
ModelConfig read_back(const ModelConfig& config) {
  return read(Json::parse(hf_config_json(config).dump()), !config.tied_head);
}

std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

struct Expected {
  std::string model_type;
  int64_t kv_heads, head_dim, context, window;
  double norm_epsilon, theta;
  bool tied;
  std::optional<int32_t> bos, eos, pad;
};

// Values of configuration_*.py of transformers 5.23.
TEST(ConfigJson, AbsentKeysAreTheFamilysOwnDefaults) {
  const std::vector<Expected> families{
      {"llama", 32, 16, 2048, 0, 1e-6, 1e4, false, 1, 2, {}},
      {"mistral", 8, 16, 131072, 4096, 1e-6, 1e4, false, 1, 2, {}},
      {"qwen2", 32, 16, 32768, 0, 1e-6, 1e4, false, {}, {}, {}},
      {"qwen3", 32, 128, 32768, 0, 1e-6, 1e4, false, {}, {}, {}},
      {"gemma2", 4, 256, 8192, 4096, 1e-6, 1e4, true, 2, 1, 0},
      {"gemma3_text", 4, 256, 131072, 4096, 1e-6, 1e6, true, 2, 1, 0},
      {"phi3", 32, 16, 4096, 0, 1e-5, 1e4, false, 1, 32000, 32000},
      {"qwen3_moe", 4, 16, 32768, 0, 1e-6, 1e4, false, {}, {}, {}},
      {"mixtral", 8, 16, 131072, 0, 1e-5, 1e6, false, 1, 2, {}},
      {"smollm3", 4, 16, 32768, 0, 1e-6, 2e6, true, {}, {}, {}},  // its ids lie beyond this vocabulary
      {"granite", 32, 16, 2048, 0, 1e-6, 1e4, false, 1, 2, {}},
      {"olmo2", 32, 16, 2048, 0, 1e-5, 1e4, false, {}, {}, 1},
      {"olmo3", 32, 16, 2048, 4096, 1e-5, 5e5, false, {}, {}, 1},
      {"deepseek_v2", 32, 192, 2048, 0, 1e-6, 1e4, false, 1, 2, {}},
      {"deepseek_v3", 32, 192, 4096, 0, 1e-6, 1e4, false, 0, 1, {}},
      {"deepseek_v32", 32, 192, 163840, 0, 1e-6, 1e4, false, 0, 1, {}},
      {"glm4", 2, 128, 131072, 0, 1.5625e-7, 1e4, false, {}, {}, {}},  // its ids lie beyond this vocabulary
      {"glm4_moe_lite", 32, 256, 202752, 0, 1e-5, 1e4, false, 0, 1, {}},
      {"seed_oss", 8, 128, 524288, 0, 1e-6, 1e4, false, 0, 2, 1},
      {"ministral3", 8, 128, 262144, 0, 1e-5, 1e6, false, 1, 2, 11},
      {"mistral4", 32, 128, 1048576, 0, 1e-6, 1e4, false, 1, 2, 11},
  };
  ASSERT_EQ(families.size(), retort::families().size()) << "a family without a line in this table";
  for (const auto& want : families) {
    const auto config = read(smallest(want.model_type));
    EXPECT_EQ(config.kv_heads, want.kv_heads) << want.model_type;
    EXPECT_EQ(config.head_dim, want.head_dim) << want.model_type;
    EXPECT_EQ(config.context, want.context) << want.model_type;
    EXPECT_EQ(config.sliding_window, want.window) << want.model_type;
    EXPECT_EQ(config.norm_epsilon, want.norm_epsilon) << want.model_type;
    EXPECT_EQ(config.rope.theta, want.theta) << want.model_type;
    EXPECT_EQ(config.tied_head, want.tied) << want.model_type;
    EXPECT_EQ(config.bos, want.bos) << want.model_type;
    EXPECT_EQ(config.pad, want.pad) << want.model_type;
    EXPECT_EQ(config.eos, want.eos ? std::vector{*want.eos} : std::vector<int32_t>{}) << want.model_type;
  }
  EXPECT_EQ(read(smallest("gemma3_text")).local_rope->theta, 1e4);
  for (const auto* gemma : {"gemma2", "gemma3_text"})
    EXPECT_EQ(read(smallest(gemma)).attention_scale, 1 / std::sqrt(256.0));
  EXPECT_EQ(read(smallest("gemma2")).attention_soft_cap, 50);
  EXPECT_EQ(read(smallest("gemma2")).final_soft_cap, 30);
  EXPECT_EQ(read(smallest("gemma3_text")).final_soft_cap, 0);
}

// text_config of gemma-3-4b-it, which leaves the rest to Gemma3TextConfig.
TEST(ConfigJson, GemmasTextSectionLeavesOutItsHeadsAndItsVocabulary) {
  const auto config = read({{"model_type", "gemma3_text"},
                            {"hidden_size", 2560},
                            {"intermediate_size", 10240},
                            {"num_hidden_layers", 34},
                            {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                            {"sliding_window", 1024}},
                           false);
  EXPECT_EQ(config.vocabulary, 262208);
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.rope.scaling, RopeScaling::linear);
  EXPECT_EQ(config.local_rope->scaling, RopeScaling::none);
}

TEST(ConfigJson, PhiRotatesTheFrontOfAHeadAndOthersWholeHeads) {
  auto json = smallest("phi3");
  json["partial_rotary_factor"] = 0.75;
  EXPECT_EQ(rotated_width(read(json).rope, 16), 12);
  const auto written = hf_config_json(read(json));
  EXPECT_EQ(written["partial_rotary_factor"], 0.75);  // where transformers 4 looks
  EXPECT_EQ(written["rope_parameters"]["partial_rotary_factor"], 0.75);
  EXPECT_EQ(read_back(read(json)).rope.partial, 0.75);
  json["partial_rotary_factor"] = 0.2;  // three dimensions
  EXPECT_NE(refusal(json).find("expected an even number of rotated dimensions"), std::string::npos);
  json["partial_rotary_factor"] = 1.5;
  EXPECT_NE(refusal(json).find("expected an even number of rotated dimensions"), std::string::npos);
  json["model_type"] = "llama", json["partial_rotary_factor"] = 0.5;
  EXPECT_NE(refusal(json).find("partial_rotary_factor: a llama rotates whole heads"), std::string::npos);
}

TEST(ConfigJson, BiasesAreReadWhereTheFamilyHasThemAndRefusedElsewhere) {
  for (const auto* family : {"llama", "granite", "smollm3"}) {
    auto json = smallest(family);
    json["attention_bias"] = json["mlp_bias"] = true;
    const auto config = read_back(read(json));
    EXPECT_TRUE(config.attention_bias && config.output_bias && config.mlp_bias) << family;
  }
  for (const auto* family : {"qwen3", "qwen3_moe", "gemma2", "gemma3_text", "olmo2", "olmo3"}) {
    auto json = smallest(family);
    json["attention_bias"] = true;
    const auto config = read_back(read(json));
    EXPECT_TRUE(config.attention_bias && config.output_bias && !config.mlp_bias) << family;
    auto plain = config;
    plain.attention_bias = plain.output_bias = false;
    if (!gguf_refusal(plain).empty()) continue;
    EXPECT_NE(gguf_refusal(config).find("no bias of o_proj in its architecture"), std::string::npos)
        << gguf_refusal(config);
  }
  for (const auto* family : {"mistral", "mixtral", "phi3"}) {  // transformers makes none of the key
    auto json = smallest(family);
    json["attention_bias"] = true;
    EXPECT_FALSE(read(json).attention_bias || read(json).output_bias) << family;
  }
  for (const auto* family : {"qwen2", "qwen3", "mistral", "olmo2"}) {
    auto json = smallest(family);
    json["mlp_bias"] = true;
    EXPECT_NE(refusal(json).find("mlp_bias: a " + std::string(family) + " has no biases"), std::string::npos)
        << refusal(json);
  }
}

TEST(ConfigJson, Glm4RotatesHalfOfAHeadAndSeedBiasesItsQueriesWhereNothingIsSaid) {
  auto json = smallest("glm4");
  const auto glm = read_back(read(json));
  EXPECT_EQ(glm.rope.partial, 0.5);
  EXPECT_TRUE(glm.attention_bias && !glm.output_bias);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", 1.0}};
  EXPECT_EQ(read_back(read(json)).rope.partial, 1);
  json["vocab_size"] = 151552;
  EXPECT_EQ(read(json).eos, (std::vector<int32_t>{151329, 151336, 151338}));
  json["eos_token_id"] = 7;
  EXPECT_EQ(read(json).eos, (std::vector<int32_t>{7}));
  auto seed = smallest("seed_oss");
  EXPECT_TRUE(read(seed).attention_bias && !read(seed).output_bias && !read(seed).mlp_bias);
  seed["attention_out_bias"] = true;
  EXPECT_TRUE(read_back(read(seed)).output_bias);
  EXPECT_NE(gguf_refusal(read(seed)).find("no bias of o_proj"), std::string::npos);
  seed["mlp_bias"] = true;
  EXPECT_TRUE(read_back(read(seed)).mlp_bias);
  EXPECT_NE(gguf_refusal(read(seed)).find("no biases of feed-forward layers"), std::string::npos);
}

TEST(ConfigJson, MinistralsQueriesGrowByItsOriginalContext) {
  auto json = smallest("ministral3");
  const auto usual = read_back(read(json));
  EXPECT_EQ(usual.rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(usual.rope.query_beta, 0.1);
  EXPECT_EQ(usual.rope.original_context, 16384);
  EXPECT_EQ(rotary_attention_factor(usual.rope, usual.context), 1);  // mscale over mscale_all_dim
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}, {"llama_4_scaling_beta", 0.25}};
  EXPECT_NE(
      refusal(json).find("original_max_position_embeddings: missing; llama_4_scaling_beta counts by it"),
      std::string::npos)
      << refusal(json);
  json["rope_parameters"]["original_max_position_embeddings"] = 512;
  const auto plain = read_back(read(json));
  EXPECT_EQ(plain.rope.scaling, RopeScaling::none);
  EXPECT_EQ(plain.rope.query_beta, 0.25);
  EXPECT_EQ(plain.rope.original_context, 512);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  const auto written =
      hf_config_json(read(json));  // transformers multiplies with the key: it has to be there
  EXPECT_EQ(written["rope_parameters"]["llama_4_scaling_beta"], 0.0);
  EXPECT_EQ(written["rope_parameters"]["original_max_position_embeddings"], 262144);
}

TEST(ConfigJson, SmolLm3LeavesEveryFourthLayerWithoutRotation) {
  auto json = smallest("smollm3");
  EXPECT_EQ(read(json).unrotated_layers, (std::vector<bool>{false, false, false, true, false, false}));
  json["no_rope_layers"] = {1, 0, 1, 0, 1, 0};
  const std::vector<bool> odd{false, true, false, true, false, true};
  EXPECT_EQ(read_back(read(json)).unrotated_layers, odd);
  EXPECT_NE(gguf_refusal(read(json)).find("every fourth layer"), std::string::npos);
  auto biased = smallest("smollm3");
  biased["attention_bias"] = true;
  EXPECT_NE(gguf_refusal(read(biased)).find("reads no biases"), std::string::npos);
  json["no_rope_layers"] = {1, 0};
  EXPECT_NE(refusal(json).find("no_rope_layers: expected a list of 6 numbers"), std::string::npos);
}

TEST(ConfigJson, OlmosWindowsKeepTheRotationsBaseAlone) {
  auto json = smallest("olmo3");
  json["rope_theta"] = 12345.0;
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 512}};
  const auto config = read_back(read(json));
  EXPECT_EQ(config.rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(config.local_rope->scaling, RopeScaling::none);
  EXPECT_EQ(config.local_rope->theta, 12345);
  EXPECT_EQ(config.sliding_layers, (std::vector<bool>{true, true, true, false, true, true}));
  auto tied = config;
  tied.tied_head = true;
  EXPECT_NE(gguf_refusal(tied).find("head of its own"), std::string::npos) << gguf_refusal(tied);
  auto wide = config;
  wide.head_dim = 32;
  EXPECT_NE(gguf_refusal(wide).find("olmo2"), std::string::npos) << gguf_refusal(wide);
  auto other = config;
  other.sliding_layers[0] = false;
  EXPECT_NE(gguf_refusal(other).find("three of four layers"), std::string::npos);
}

TEST(ConfigJson, QwensWindowBeginsAtLayer28WhereNothingElseIsSaid) {
  auto json = smallest("qwen2");
  json["use_sliding_window"] = true;
  json["num_hidden_layers"] = 30;
  const auto config = read(json);
  EXPECT_EQ(config.sliding_window, 4096);
  EXPECT_FALSE(config.sliding_layers.at(27));
  EXPECT_TRUE(config.sliding_layers.at(28));
}

// A null is a value: "none", where an absent key would be the default.
TEST(ConfigJson, NullIsNoneAndSurvivesBeingWritten) {
  for (const auto& family : families()) {
    auto json = smallest(family.model_type);
    for (const auto* key : {"bos_token_id", "eos_token_id", "pad_token_id", "attn_logit_softcapping",
                            "final_logit_softcapping"})
      json[key] = nullptr;
    if (family.name != std::string("gemma2") && family.name != std::string("gemma3"))
      json["sliding_window"] = nullptr;
    const auto config = read(json);
    for (const auto& each : {config, read_back(config)}) {
      EXPECT_FALSE(each.bos) << family.name;
      EXPECT_FALSE(each.pad) << family.name;
      EXPECT_TRUE(each.eos.empty()) << family.name;
      EXPECT_EQ(each.attention_soft_cap, 0) << family.name;
      EXPECT_EQ(each.final_soft_cap, 0) << family.name;
      EXPECT_EQ(each.sliding_window, config.sliding_window) << family.name;
    }
    const auto written = hf_config_json(config);
    for (const auto* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
      EXPECT_TRUE(written.contains(key) && written[key].is_null()) << family.name << " " << key;
  }
}

TEST(ConfigJson, YarnOfNoOriginalContextStretchesTheModelsOwn) {
  auto json = smallest("llama");
  json["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"rope_theta", 10000.0}};
  const auto config = read(json);
  EXPECT_EQ(config.rope.original_context, 2048);
  EXPECT_EQ(hf_config_json(config)["rope_parameters"]["original_max_position_embeddings"], 2048);
}

TEST(ConfigJson, LongropeKeepsItsFactors) {
  auto json = smallest("phi3");
  json["original_max_position_embeddings"] = 64;
  json["rope_parameters"] = {
      {"rope_type", "longrope"},
      {"factor", 3.0},
      {"attention_factor", 1.75},
      {"original_max_position_embeddings", 128},  // the key above wins, as in Phi3Config
      {"long_factor", std::vector<double>(8, 2)},
      {"short_factor", std::vector<double>(8, 1)}};
  const auto config = read_back(read(json));
  EXPECT_EQ(config.rope.factor, 3);
  EXPECT_EQ(config.rope.attention_factor, 1.75);
  EXPECT_EQ(config.rope.original_context, 64);
}

// transformers' _compute_dynamic_ntk_parameters: a factor of 1 up to max_position_embeddings.
TEST(ConfigJson, DynamicRopeIsThePlainRotationWithinTheContextAndRefusedBeyondIt) {
  auto json = smallest("llama");
  json["rope_scaling"] = {{"type", "dynamic"}, {"factor", 4.0}};
  const auto config = read_back(read(json));
  EXPECT_EQ(config.rope.scaling, RopeScaling::dynamic);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.context, 2048);
  const auto plain = read(smallest("llama"));
  for (const auto length : {int64_t{1}, config.context})
    EXPECT_EQ(rotary_frequencies(config.rope, 16, config.context, length),
              rotary_frequencies(plain.rope, 16, config.context, length));
  const Rotary rotary(config.rope, 16, config.context);
  EXPECT_NO_THROW(rotary.table(at::tensor(std::vector<int64_t>{0, 2047})));
  try {
    rotary.table(at::tensor(std::vector<int64_t>{0, 2048}));
    FAIL() << "nothing was refused";
  } catch (const FormatError& error) {
    EXPECT_STREQ(
        error.what(),
        "a text has 2049 tokens: from token 2049 on this model's rotation is that of the longest text "
        "met so far (rope_type: dynamic), which is not computed here; set data.sample_tokens to 2048 or "
        "less");
  }
  EXPECT_EQ(gguf_refusal(config), "");
  ASSERT_EQ(gguf_ignored(config).size(), 1u);
  EXPECT_NE(gguf_ignored(config)[0].find("texts of up to 2048 tokens"), std::string::npos);
  EXPECT_NE(beyond_context_is(config).find("rope_type: dynamic"), std::string::npos);
  EXPECT_EQ(beyond_context_is(plain), "");
}

// Of the layers that see everything, of those with a window, or of both.
TEST(ConfigJson, DynamicRopeOfOneKindOfLayersIsKept) {
  for (const auto* family : {"gemma3_text", "olmo3"}) {
    auto json = smallest(family);
    json["rope_parameters"] = {
        {"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}},
        {"sliding_attention", {{"rope_type", "dynamic"}, {"factor", 2.0}, {"rope_theta", 1e6}}}};
    json["tie_word_embeddings"] = family == std::string("gemma3_text");
    const auto config = read_back(read(json));
    EXPECT_EQ(config.rope.scaling, RopeScaling::none) << family;
    EXPECT_EQ(config.local_rope->scaling, RopeScaling::dynamic) << family;
    EXPECT_EQ(gguf_refusal(config), "") << family;
    EXPECT_EQ(gguf_ignored(config).size(), 1u) << family;
    EXPECT_NE(beyond_context_is(config), "") << family;
  }
}

TEST(ConfigJson, RefusesAttentionInBothDirections) {
  for (const auto* model : {"gemma2", "gemma3_text"}) {
    auto json = smallest(model);
    json["use_bidirectional_attention"] = true;
    EXPECT_NE(refusal(json).find("config.json: use_bidirectional_attention: is true"), std::string::npos)
        << refusal(json);
    json["use_bidirectional_attention"] = nullptr;
    EXPECT_EQ(refusal(json), "");
  }
}

// gemma2's golden model is tied: its file is written again with a head.
TEST(LoadedModel, AHeadThatDiffersFromTheEmbeddingIsNotTiedToIt) {
  const auto from = std::filesystem::path(source_dir()) / "tests/golden/models/gemma2";
  const auto file = open_safetensors_folder(from);
  const auto* embedding = file.find("model.embed_tokens.weight");
  std::vector<std::byte> head(embedding->data.begin(), embedding->data.end());
  for (const bool other : {false, true}) {
    if (other) head.back() ^= std::byte{1};
    const TemporaryFolder folder;
    std::vector<TensorSource> sources;
    for (const auto& tensor : file.tensors)
      sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
    sources.push_back(tensor_source("lm_head.weight", embedding->type, embedding->shape, head));
    write_safetensors_folder(folder / "model", sources, 1 << 30);
    std::filesystem::copy_file(from / "config.json", folder / "model/config.json");
    const auto loaded = load_weights({.path = folder / "model"});
    EXPECT_EQ(loaded.model->config.tied_head, !other);
    const auto& weight = loaded.model->head.linear.weight.dense;
    EXPECT_EQ(at::equal(weight, loaded.model->embedding.weight.dense), !other);
    EXPECT_EQ(hf_config_json(loaded.model->config)["tie_word_embeddings"], !other);
  }
}

}  // namespace
}  // namespace retort
