#include "formats/peft_folder.h"

#include <gtest/gtest.h>

#include "formats/float_tensors.h"  // tests/formats
#include "formats/made_files.h"     // tests/formats

namespace retort {
namespace {

PeftConfig small_config() {
  PeftConfig config;
  config.base_model_name_or_path = "models/base";
  config.r = 2;
  config.lora_alpha = 3;
  config.target_modules = {"q_proj"};
  return config;
}

std::string config_error(const std::string& json) {
  return format_error([&] { parse_peft_config(json, "adapter_config.json"); });
}

}  // namespace

TEST(PeftConfig, PatternsOverrideRankAndAlphaAsPeftMatchesThem) {
  auto config = small_config();
  config.rank_pattern = {{"layers.1.self_attn.q_proj", 4}, {"^model.layers.2.*", 8}};
  config.alpha_pattern = {{"k_proj|q_proj", 12}, {"q_proj", 99}};
  EXPECT_EQ(peft_rank(config, "model.layers.1.self_attn.q_proj"), 4);
  EXPECT_EQ(peft_rank(config, "model.layers.11.self_attn.q_proj"),
            2);  // a name matches from a dot on, not inside a word
  EXPECT_EQ(peft_rank(config, "model.layers.2.mlp.up_proj"), 8);
  EXPECT_EQ(peft_alpha(config, "model.layers.1.self_attn.q_proj"), 12);  // the first pattern counts
  EXPECT_EQ(peft_alpha(config, "model.layers.1.mlp.up_proj"), 3);
  EXPECT_DOUBLE_EQ(peft_scaling(config, "model.layers.1.self_attn.q_proj"), 3.0);
  config.use_rslora = true;
  EXPECT_DOUBLE_EQ(peft_scaling(config, "model.layers.1.self_attn.q_proj"), 6.0);  // 12 / sqrt(4)
}

TEST(PeftConfig, HostilePatternsStopAfterBoundedSteps) {
  auto config = small_config();
  config.alpha_pattern = {{"(a+)+(a+)+(a+)+b", 1}};
  EXPECT_TRUE(says(format_error([&] { peft_alpha(config, std::string(5000, 'a')); }), "too many steps"));
  config.alpha_pattern = {{"(", 1}};
  EXPECT_TRUE(says(format_error([&] { peft_alpha(config, "q_proj"); }), "is not a regular expression"));
}

TEST(PeftConfig, RefusesWhatItWouldComputeWrongly) {
  EXPECT_TRUE(says(config_error(R"({"peft_type": "IA3"})"), "peft_type: is 'IA3'; only LORA"));
  EXPECT_TRUE(says(config_error(R"({"r": 8})"), "peft_type: is ''"));
  const auto with = [](const std::string& setting) {
    return config_error(R"({"peft_type": "LORA", )" + setting + "}");
  };
  EXPECT_TRUE(says(with(R"("bias": "all")"), "bias: is 'all'"));
  EXPECT_TRUE(says(with(R"("lora_bias": true)"), "lora_bias: is set, and this setting is not supported"));
  EXPECT_TRUE(says(with(R"("fan_in_fan_out": true)"), "fan_in_fan_out: is set"));
  EXPECT_TRUE(
      says(with(R"("target_parameters": ["mlp.experts.down_proj_bias"])"), "target_parameters: is set"));
  EXPECT_TRUE(says(with(R"("layer_replication": [[0, 4]])"), "layer_replication: is set"));
  EXPECT_TRUE(says(with(R"("something_new": {"x": 1})"), "something_new: is set"));
  EXPECT_TRUE(says(with(R"("init_lora_weights": "pissa")"), "alters the base weights"));
  EXPECT_TRUE(says(with(R"("task_type": "SEQ_CLS")"), "expected CAUSAL_LM"));
  EXPECT_TRUE(says(with(R"("r": 0)"), "r: expected a whole number from 1"));
  EXPECT_TRUE(says(with(R"("r": 8.0)"), "r: expected a whole number from 1"));
  EXPECT_TRUE(says(with(R"("lora_alpha": "8")"), "lora_alpha: expected a number"));
  EXPECT_TRUE(says(with(R"("lora_dropout": 1)"), "lora_dropout: expected a number from 0 to below 1"));
  EXPECT_TRUE(says(with(R"("rank_pattern": {"x": -1})"), "rank_pattern.x: expected a whole number"));
  EXPECT_TRUE(says(with(R"("target_modules": [1])"), "target_modules: expected a list of names"));
  EXPECT_TRUE(says(with(R"("r": 1, "r": 2)"), "stands twice"));
  EXPECT_TRUE(says(config_error("[]"), "expected a JSON object"));
  const auto config = parse_peft_config(
      R"({"peft_type": "LORA", "target_modules": "all-linear", "something_new": null, "other": false})", "c");
  EXPECT_EQ(config.target_pattern, "all-linear");
}

TEST(PeftFolder, ReadsWhatItWrites) {
  TemporaryFolder folder;
  auto config = small_config();
  config.use_dora = true;
  config.rank_pattern = {{"v_proj", 1}};
  config.modules_to_save = {"lm_head"};
  const std::string q = "model.layers.0.self_attn.q_proj", v = "model.layers.0.self_attn.v_proj";
  write_peft_folder(
      folder.path, config,
      {floats(peft_name(q, "lora_A.weight"), {2, 4}), floats(peft_name(q, "lora_B.weight"), {3, 2}),
       floats(peft_name(q, "lora_magnitude_vector"), {3}), floats(peft_name(v, "lora_A.weight"), {1, 4}),
       floats(peft_name(v, "lora_B.weight"), {2, 1}), floats(peft_name(v, "lora_magnitude_vector"), {2}),
       floats(peft_name("lm_head", "weight"), {5, 4})});
  const auto adapter = open_peft_folder(folder.path);
  ASSERT_EQ(adapter.modules.size(), 2u);
  EXPECT_EQ(adapter.modules[0].name, q);
  EXPECT_EQ(adapter.modules[0].a->name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(adapter.modules[0].scaling, 1.5);
  EXPECT_EQ(adapter.modules[1].scaling, 3.0);
  EXPECT_EQ(adapter.saved[0].name, "lm_head.weight");
  EXPECT_EQ(adapter.config.base_model_name_or_path, "models/base");
  EXPECT_EQ(open_weights(folder.path).tensors.size(), 7u);  // and as a plain weight file
}

TEST(PeftFolder, RefusesAnAdapterThatDoesNotAddUp) {
  TemporaryFolder folder;
  const std::string q = "model.q_proj";
  const auto attempt = [&](const PeftConfig& config, const std::vector<TensorSource>& tensors) {
    write_peft_folder(folder.path, config, tensors);
    return format_error([&] { open_peft_folder(folder.path); });
  };
  const auto a = floats(peft_name(q, "lora_A.weight"), {2, 4}),
             b = floats(peft_name(q, "lora_B.weight"), {3, 2});
  EXPECT_TRUE(says(attempt(small_config(), {a}), "model.q_proj: lora_B is missing"));
  EXPECT_TRUE(says(attempt(small_config(), {b}), "model.q_proj: lora_A is missing"));
  EXPECT_TRUE(says(attempt(small_config(), {a, floats(peft_name(q, "lora_B.weight"), {3, 3})}),
                   "do not have the rank 2"));
  EXPECT_TRUE(says(attempt(small_config(), {a, floats(peft_name(q, "lora_B.weight"), {6})}),
                   "expected 2 dimensions"));
  EXPECT_TRUE(says(attempt(small_config(), {a, b, floats(peft_name(q, "lora_magnitude_vector"), {3})}),
                   "use_dora is not set"));
  EXPECT_TRUE(
      says(attempt(small_config(), {a, b, floats(peft_name(q, "lora_B.bias"), {3})}), "is not supported"));
  const auto ea = floats(peft_name("model.embed_tokens", "lora_embedding_A"), {2, 3}),
             eb = floats(peft_name("model.embed_tokens", "lora_embedding_B"), {4, 2});
  EXPECT_TRUE(says(attempt(small_config(), {a, b, ea}), "model.embed_tokens: lora_embedding_B is missing"));
  EXPECT_TRUE(says(attempt(small_config(), {a, b, eb}), "model.embed_tokens: lora_embedding_A is missing"));
  write_peft_folder(folder.path, small_config(), {a, b, ea, eb});
  EXPECT_EQ(open_peft_folder(folder.path).modules.size(), 2u);
  const auto rows = floats(peft_name("model.embed_tokens", "token_adapter.trainable_tokens_delta"), {2, 4});
  EXPECT_TRUE(says(attempt(small_config(), {a, b, rows}), "says nothing of this module"));
  auto tokens = small_config();
  tokens.trainable_tokens = {{"embed_tokens", {5, 3, 1}}};
  EXPECT_TRUE(says(attempt(tokens, {a, b, rows}), "has 2 rows, and trainable_token_indices"));
  tokens.trainable_tokens = {{"embed_tokens", {5, 3}}};
  write_peft_folder(folder.path, tokens, {a, b, rows});
  EXPECT_EQ(open_peft_folder(folder.path).rows.at(0).ids, (std::vector<int64_t>{5, 3}));
  EXPECT_TRUE(says(attempt(small_config(), {a, floats("model.q_proj.lora_A.weight", {2, 4}), b}),
                   "this part of the module stands twice"));
  EXPECT_TRUE(says(attempt(small_config(), {}), "holds no tensors"));
  auto dora = small_config();
  dora.use_dora = true;
  EXPECT_TRUE(says(attempt(dora, {a, b}), "lora_magnitude_vector is missing"));
  EXPECT_TRUE(
      says(attempt(dora, {a, b, floats(peft_name(q, "lora_magnitude_vector"), {4})}), "lora_B has 3 rows"));
  EXPECT_TRUE(
      says(attempt(small_config(), {tensor_source(peft_name(q, "lora_A.weight"), WeightType::i32, {2, 4},
                                                  std::as_bytes(std::span(kNumbers).first(8))),
                                    b}),
           "is stored as I32; expected F32"));
  std::filesystem::remove(folder.path / "adapter_model.safetensors");
  folder.put("adapter_model.bin", "PK\x03\x04");
  EXPECT_TRUE(says(format_error([&] { open_peft_folder(folder.path); }), "only as a pickle"));
  std::filesystem::remove(folder.path / "adapter_config.json");
  EXPECT_TRUE(says(format_error([&] { open_peft_folder(folder.path); }), "holds no adapter_config.json"));
}

// Other tools write the names without "base_model.model.".
TEST(PeftFolder, NamesWithoutThePrefixAreRead) {
  TemporaryFolder folder;
  write_peft_folder(folder.path, small_config(),
                    {floats("model.q_proj.lora_A.weight", {2, 4}),
                     floats("model.q_proj.lora_B.default.weight", {3, 2}), floats("lm_head.weight", {5, 4})});
  const auto adapter = open_peft_folder(folder.path);
  ASSERT_EQ(adapter.modules.size(), 1u);
  EXPECT_EQ(adapter.modules[0].name, "model.q_proj");
  EXPECT_EQ(adapter.saved.at(0).name, "lm_head.weight");
}

// The base path may name anything: nothing but the adapter's own two files is opened.
TEST(PeftFolder, NeverOpensTheBasePath) {
  TemporaryFolder folder;
  auto config = small_config();
  config.base_model_name_or_path = folder.put("secret", "secret").string();
  write_peft_folder(
      folder.path / "adapter", config,
      {floats(peft_name("q", "lora_A.weight"), {2, 4}), floats(peft_name("q", "lora_B.weight"), {3, 2})});
  const auto before = files_read();
  open_peft_folder(folder.path / "adapter");
  const auto after = files_read();
  std::vector<std::string> opened;
  for (size_t i = before.size(); i < after.size(); ++i) opened.push_back(after[i].filename());
  EXPECT_EQ(opened, (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
}

}  // namespace retort
