// DeepSeek's models as llama.cpp keeps them: heads of latent attention as two tensors, experts' gate and up
// in one tensor or in two, layers behind the last.
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "export/artefacts.h"
#include "formats/weight_file.h"
#include "models/differing_config.h"
#include "models/read_config.h"
#include "models/tensor_names.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

ModelConfig golden_config(const std::string& name, const std::function<void(Json&)>& change = {}) {
  auto json = read_json(std::filesystem::path(source_dir()) / "tests/golden/models" / name / "config.json");
  json["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 10000.0},
                             {"factor", 4.0},       {"original_max_position_embeddings", 64},
                             {"mscale", 1.0},       {"mscale_all_dim", 1.0}};
  if (change) change(json);
  return config_from_hf(json, "config.json", true);
}

ModelConfig v32_config(int64_t width = 64) {
  return golden_config("deepseek_v32_sparse", [&](Json& json) { json["index_head_dim"] = width; });
}

// Random numbers in a model's shape.
LoadedModel random_model(const ModelConfig& config) {
  LoadedModel loaded;
  uint64_t seed = 1;
  loaded.model = build_shape(config);
  for (auto* linear : loaded.model->matrices())
    linear->weight = dense_weight(0.2 * random({linear->weight.rows, linear->weight.columns}, ++seed));
  for (auto& vector : loaded.model->vectors()) {
    auto generator = random({vector.tensor->numel()}, ++seed).view(vector.tensor->sizes());
    *vector.tensor = vector.place.role == Role::router || vector.place.role == Role::router_bias
                         ? 0.2 * generator
                         : 1 + 0.2 * generator;
  }
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  vocabulary.tokens = {"<pad>", "<bos>", "<eos>", "\xc4\xa0", "\xc4\x8a"};
  vocabulary.token_types = {3, 3, 3, 1, 1};
  for (char c = '!'; vocabulary.tokens.size() < 96; ++c) {
    vocabulary.tokens.emplace_back(1, c);
    vocabulary.token_types.push_back(1);
  }
  vocabulary.tokens.back() = "th";
  vocabulary.merges = {"t h"};
  vocabulary.pad = 0, vocabulary.bos = 1, vocabulary.eos = 2;
  loaded.tokenizer = tokenizer_from_gguf(vocabulary, "characters");
  return loaded;
}

Tensor states(const Model& model) {
  Forest forest;
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(3 + i * 37 % 90);
  forest.add_segment(tokens);
  const at::NoGradGuard no_graph;
  return model.hidden(make_pass(forest, at::kFloat));
}

class DeepseekGguf : public testing::Test {
 protected:
  std::string path(const char* name) { return (std::filesystem::path(folder / name)).string(); }
  LoadedModel written(LoadedModel& loaded, const char* mixture, const char* schedule = "tokens") {
    const auto file = path("model.gguf");
    write_gguf_model(file, loaded, *mixture_from_name(mixture), true, 2);
    return load_model({.path = file, .compute = "f32", .schedule = schedule, .memory = "1MiB"});
  }
  TemporaryFolder folder;
};

TEST_F(DeepseekGguf, AFileGivesTheModelThatWasWritten) {
  const auto plain = golden_config("deepseek_v3_plain", [](Json& json) {
    json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  });
  const auto scaled = golden_config("deepseek_v3", [](Json& json) {
    json["rope_parameters"]["mscale"] = json["rope_parameters"]["mscale_all_dim"] = 0.7;
  });
  const auto unscaled = golden_config("deepseek_v3", [](Json& json) {
    json["rope_parameters"].erase("mscale"), json["rope_parameters"].erase("mscale_all_dim");
    json["rope_parameters"]["attention_factor"] = 1.0;
  });
  const auto as_lite = golden_config("deepseek_v2", [](Json& json) {
    json["rope_parameters"]["mscale"] = json["rope_parameters"]["mscale_all_dim"] = 0.707;
    json["routed_scaling_factor"] = 16.0;
  });
  const auto grows =
      golden_config("mistral4", [](Json& json) { json["rope_parameters"]["llama_4_scaling_beta"] = 0.5; });
  const auto groups = golden_config("mistral4_groups", [](Json& json) { json["rope_interleave"] = true; });
  for (const auto& config : {golden_config("deepseek_v3"), plain, scaled, unscaled, v32_config(), as_lite,
                             golden_config("kimi_k2"), grows, groups}) {
    SCOPED_TRACE(config.family + " " + std::to_string(config.rope.mscale_all_dim));
    ASSERT_EQ(gguf_refusal(config), "");
    auto loaded = random_model(config);
    const auto again = written(loaded, "F32");
    EXPECT_EQ(what_reads_back_otherwise(config, again.model->config), std::nullopt);
    EXPECT_TRUE(at::equal(states(*again.model), states(*loaded.model)));
    EXPECT_TRUE(at::equal(states(*written(loaded, "F32", "layers").model), states(*loaded.model)));
    const auto file = open_gguf(path("model.gguf"));
    const auto& latent = *config.latent;
    EXPECT_EQ(file.find("blk.0.attn_k_b.weight")->shape,
              (std::vector<int64_t>{config.heads, latent.kv_rank, latent.nope_dim}));
    EXPECT_EQ(file.find("blk.0.attn_v_b.weight")->shape,
              (std::vector<int64_t>{config.heads, latent.value_dim, latent.kv_rank}));
    EXPECT_EQ(file.find("blk.0.attn_kv_b.weight"), nullptr);
    const auto rounded = written(loaded, "Q8_0");
    for (size_t i = 0; i < loaded.model->linears().size(); ++i)
      EXPECT_LE(distance(widen(rounded.model->linears()[i]->weight, at::kFloat),
                         widen(loaded.model->linears()[i]->weight, at::kFloat)),
                1.0 / 127)
          << loaded.model->linears()[i]->name;
  }
}

// The same file as others write it: kv_b_proj in one tensor and the widths of whole heads, as before its
// heads were split; gate and up of all experts in one tensor; a layer behind the last.
TEST_F(DeepseekGguf, FilesOfOtherLayoutsAreRead) {
  const auto config = golden_config("deepseek_v3");
  auto loaded = random_model(config);
  const auto plain = written(loaded, "F32");
  const auto file = open_gguf(path("model.gguf"));
  std::vector<std::pair<std::string, GgufValue>> metadata(file.gguf_metadata.begin(),
                                                          file.gguf_metadata.end());
  std::erase_if(metadata, [](const auto& entry) { return entry.first.ends_with("_length_mla"); });
  for (auto& [key, value] : metadata) {
    if (key == "deepseek2.attention.key_length") value = static_cast<uint32_t>(config.head_dim);
    if (key == "deepseek2.attention.value_length") value = static_cast<uint32_t>(config.latent->value_dim);
    if (key == "deepseek2.attention.head_count_kv") value = static_cast<uint32_t>(config.heads);
    if (key == "deepseek2.block_count") value = static_cast<uint32_t>(config.layers + 1);
  }
  metadata.emplace_back("deepseek2.nextn_predict_layers", uint32_t{1});
  std::vector<TensorSource> sources;
  const auto add = [&](const std::string& name, const Tensor& values) {
    sources.push_back({name, WeightType::f32, values.sizes().vec(), [values](const auto& sink) {
                         sink(std::as_bytes(
                             std::span(values.const_data_ptr<float>(), static_cast<size_t>(values.numel()))));
                       }});
  };
  for (const auto& tensor : file.tensors) {
    const auto part = [&](const char* what) { return tensor.name.find(what) != std::string::npos; };
    if (!part("_b.weight") && !part("ffn_gate_exps") && !part("ffn_up_exps"))
      sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
    if (part("attn_q_b"))
      sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
  }
  for (const auto* linear : loaded.model->linears())
    if (linear->place.role == Role::kv_b)
      add("blk." + std::to_string(linear->place.layer) + ".attn_kv_b.weight", linear->weight.dense);
  for (int64_t layer = 1; layer < config.layers; ++layer) {
    std::vector<Tensor> experts(static_cast<size_t>(config.experts));
    for (const auto* linear : loaded.model->linears()) {
      if (linear->place.layer != layer || linear->place.expert < 0) continue;
      auto& both = experts[static_cast<size_t>(linear->place.expert)];
      if (linear->place.role == Role::gate) both = linear->weight.dense;
      if (linear->place.role == Role::up) both = at::cat({both, linear->weight.dense});
    }
    add("blk." + std::to_string(layer) + ".ffn_gate_up_exps.weight", at::stack(experts));
  }
  const auto other = path("other.gguf");
  write_gguf(other, metadata, sources);
  const auto again = load_model({.path = other, .compute = "f32"});
  EXPECT_EQ(again.model->config.layers, config.layers);
  EXPECT_TRUE(at::equal(states(*again.model), states(*plain.model)));
}

// The same file with other keys.
class SaidOtherwise : public DeepseekGguf {
 protected:
  ModelConfig config_with(const ModelConfig& config, const std::map<std::string, GgufValue>& keys) {
    auto loaded = random_model(config);
    write_gguf_model(path("plain.gguf"), loaded, *mixture_from_name("F32"), true, 2);
    const auto file = open_gguf(path("plain.gguf"));
    std::map<std::string, GgufValue> metadata(file.gguf_metadata.begin(), file.gguf_metadata.end());
    for (const auto& [key, value] : keys) metadata[key] = value;
    std::vector<TensorSource> sources;
    for (const auto& tensor : file.tensors)
      sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
    write_gguf(path("other.gguf"), {metadata.begin(), metadata.end()}, sources);
    return config_from_gguf(open_gguf(path("other.gguf")));
  }
  std::string refusal(const ModelConfig& config, const std::map<std::string, GgufValue>& keys) {
    try {
      config_with(config, keys);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  }
};

TEST_F(SaidOtherwise, WhoseADeepseek2IsTellsItsScoresAndItsTokenizer) {
  const auto v3 = golden_config("deepseek_v3"), v2 = golden_config("deepseek_v2");
  EXPECT_EQ(config_with(v3, {}).family, "deepseek_v3");
  EXPECT_EQ(config_with(v3, {{"tokenizer.ggml.pre", std::string("glm4")}}).family, "glm4_moe_lite");
  EXPECT_EQ(config_with(v2, {}).family, "deepseek_v2");
  EXPECT_EQ(config_with(v2, {{"deepseek2.expert_gating_func", uint32_t{0}}}).family, "deepseek_v2");
  // The size of GLM-4.7-Flash, whose converter says no function; 154,880 rows of a vocabulary.
  EXPECT_EQ(config_with(v3, {{"deepseek2.expert_gating_func", uint32_t{0}},
                             {"deepseek2.block_count", uint32_t{47}},
                             {"deepseek2.vocab_size", uint32_t{154880}},
                             {"tokenizer.ggml.pre", std::string("glm4")}})
                .family,
            "glm4_moe_lite");
}

TEST_F(SaidOtherwise, WhatIsNotKnownOfAFileIsRefused) {
  const auto says = [](const std::string& found, const char* words) {
    EXPECT_NE(found.find(words), std::string::npos) << found;
  };
  const auto v3 = golden_config("deepseek_v3"), v2 = golden_config("deepseek_v2"),
             small = golden_config("mistral4",
                                   [](Json&json) { json["rope_parameters"]["llama_4_scaling_beta"] = 0.5; });
  says(refusal(v3, {{"deepseek2.expert_gating_func", uint32_t{4}}}), "is 4, which is not computed here");
  says(refusal(v2, {{"deepseek2.expert_weights_norm", true}}), "expert_weights_norm: is true");
  says(refusal(v2, {{"deepseek2.expert_group_count", uint32_t{4}},
                    {"deepseek2.expert_group_used_count", uint32_t{2}}}),
       "llama.cpp judges a group of experts by its two best, DeepSeek V2 by its best");
  says(refusal(v3, {{"deepseek2.attention.temperature_scale", 0.1f}}), "queries that grow along a text");
  says(refusal(small, {{"mistral4.attention.temperature_length", uint32_t{9}}}),
       "is 9, and the rotation's original context is 64");
  says(refusal(small, {{"mistral4.expert_gating_func", uint32_t{2}}}), "sigmoids (2)");
}

TEST_F(DeepseekGguf, WhatLlamaCppComputesOtherwiseIsRefused) {
  const auto refusal = [](const ModelConfig& config) { return gguf_refusal(config); };
  const auto v3 = [](const char* key, const Json& value) {
    return golden_config("deepseek_v3", [&](Json& json) { json[key] = value; });
  };
  EXPECT_NE(refusal(v3("attention_bias", true)).find("reads no biases of attention"), std::string::npos);
  EXPECT_NE(refusal(v3("rope_interleave", false)).find("halves apart"), std::string::npos);
  EXPECT_NE(refusal(v3("n_shared_experts", 0)).find("an expert that sees every token"), std::string::npos);
  EXPECT_NE(refusal(golden_config("deepseek_v3",
                                  [](Json& json) { json["rope_parameters"].erase("mscale_all_dim"); }))
                .find("makes rotated heads 1.139 times as large"),
            std::string::npos);
  EXPECT_NE(refusal(golden_config("deepseek_v2_groups", [](Json& json) { json["attention_bias"] = false; }))
                .find("judges a group of experts by its two best"),
            std::string::npos);
  EXPECT_NE(refusal(golden_config("glm4_moe_lite_mixed", [](Json& json) { json["rope_interleave"] = true; }))
                .find("the layers without experts in front"),
            std::string::npos);
  EXPECT_NE(
      refusal(golden_config("mistral4",
                            [](Json& json) { json["num_hidden_layers"] = 48, json["vocab_size"] = 128256; }))
          .find("takes a mistral4 of 48 layers for DeepSeek V2 Lite"),
      std::string::npos);
  EXPECT_NE(refusal(v32_config(18)).find("this model's are 18 wide (index_head_dim)"), std::string::npos);
  EXPECT_NE(gguf_ignored(golden_config("deepseek_v3")).at(0).find("takes rms_norm_eps, 1e-05"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
