// Folders of F8_E4M3 with scales: the same numbers as a folder of their decoded values.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/fp8_folder.h"      // tests/models
#include "models/model.h"
#include "models/read_config.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

const auto kGolden = std::filesystem::path(source_dir()) / "tests/golden/models";

Tensor logits_of(const std::string& path, at::ScalarType compute) {
  const auto loaded = load_weights({.path = path});
  Forest forest;
  forest.add_segment({3, 14, 15, 92, 65, 35, 8, 9, 79, 32, 38, 46, 26, 43, 38});
  const at::NoGradGuard no_graph;
  const auto pass = make_pass(forest, compute);
  std::vector<int32_t> rows(15);
  std::iota(rows.begin(), rows.end(), 0);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

void expect_equal(const std::string& family, const Fp8Form& form) {
  const Fp8Pair pair;
  write_fp8_pair(pair, family, form);
  for (const auto& entry : std::filesystem::directory_iterator(pair.fp8()))
    ASSERT_NE(entry.path().filename().string(), "model.safetensors") << "one shard alone";
  EXPECT_TRUE(at::equal(logits_of(pair.fp8(), at::kFloat), logits_of(pair.plain(), at::kFloat)));
  // In bf16 the decoded values are rounded once, as those of the plain folder are.
  EXPECT_TRUE(at::equal(logits_of(pair.fp8(), at::kBFloat16), logits_of(pair.plain(), at::kBFloat16)));
}

TEST(Fp8, BlocksOfScalesEqualTheirDecodedValues) {  // 28 rows of kv_a_proj_with_mqa: a ragged last block
  for (const auto* family : {"deepseek_v3", "deepseek_v32", "qwen3_moe"}) expect_equal(family, {});
  expect_equal("deepseek_v3", {.scale_type = WeightType::bf16});
  expect_equal("deepseek_v3", {.scale_type = WeightType::f8_e8m0});
}

TEST(Fp8, AScaleForEachRowAndOneForAll) {
  Fp8Form rows{.block = -1};
  rows.quantization = {
      {"quant_method", "compressed-tensors"},
      {"format", "float-quantized"},
      {"ignore", {"lm_head"}},
      {"config_groups",
       {{"group_0",
         {{"targets", {"Linear"}},
          {"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}, {"symmetric", true}}},
          {"input_activations", {{"num_bits", 8}, {"type", "float"}, {"dynamic", true}}}}}}}};
  rows.suffix = "_scale";
  expect_equal("llama", rows);
  Fp8Form all{.block = 0};
  all.quantization.erase("weight_block_size");
  expect_equal("llama", all);
}

TEST(Fp8, TheCopyOfADecodedMatrixIsThatOfItsValues) {
  const Fp8Pair pair;
  write_fp8_pair(pair, "deepseek_v3", {});
  const auto kept = load_weights({.path = pair.fp8()}),
             wide = load_weights({.path = pair.fp8(), .weights = "bf16"}),
             plain = load_weights({.path = pair.plain(), .weights = "bf16"});
  const auto stored = kept.model->linears(), converted = wide.model->linears(),
             expected = plain.model->linears();
  for (size_t i = 0; i < stored.size(); ++i) {
    EXPECT_TRUE(stored[i]->weight.scales.defined()) << stored[i]->name;
    EXPECT_TRUE(at::equal(converted[i]->weight.dense, expected[i]->weight.dense)) << stored[i]->name;
  }
}

// Mistral Small 4's experts: all of a layer in one tensor.
TEST(Fp8, ExpertsInOneTensorAreThoseOfTheirValues) {
  for (const std::string scales : {"blocks", "powers", "rows", "experts", "parts", "one"}) {
    const Fp8Pair pair;
    write_fp8_stacks(pair, scales);
    const auto loaded = load_weights({.path = pair.fp8()});
    for (const auto* layer : std::as_const(*loaded.model).linears())
      EXPECT_EQ(layer->weight.type == WeightType::f8_e4m3, layer->place.expert >= 0) << layer->name;
    EXPECT_TRUE(at::equal(logits_of(pair.fp8(), at::kFloat), logits_of(pair.plain(), at::kFloat))) << scales;
    if (scales != "blocks") continue;
    const auto file = std::filesystem::path(pair.fp8()) / "config.json";
    auto config = read_json(file);
    config["quantization_config"]["weight_block_size"] = {12, 16};  // gate's last rows with up's first
    write_text(file, config.dump());
    EXPECT_THROW(load_weights({.path = pair.fp8()}), FormatError);
  }
}

// DeepSeek's folders hold a layer more than num_hidden_layers says, which predicts a second token.
TEST(Deepseek, LayersBehindTheLastAreReadOver) {
  const TemporaryFolder folder;
  const auto original = open_safetensors_folder(kGolden / "deepseek_v3");
  std::vector<TensorSource> tensors;
  for (const auto& tensor : original.tensors) {
    tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
    constexpr std::string_view kLast = "model.layers.2.";
    if (tensor.name.starts_with(kLast))
      tensors.push_back(tensor_source("model.layers.3." + tensor.name.substr(kLast.size()), tensor.type,
                                      tensor.shape, tensor.data));
  }
  const std::filesystem::path path = folder / "mtp";
  write_safetensors_folder(path, tensors, 1 << 30);
  std::filesystem::copy_file(kGolden / "deepseek_v3/config.json", path / "config.json");
  EXPECT_EQ(load_weights({.path = path.string()}).beyond, tensors.size() - original.tensors.size());
  EXPECT_EQ(load_weights({.path = (kGolden / "deepseek_v3").string()}).beyond, 0u);
  EXPECT_TRUE(at::equal(logits_of(path.string(), at::kFloat),
                        logits_of((kGolden / "deepseek_v3").string(), at::kFloat)));
}

TEST(Fp8, RefusesByNameWhatItDoesNotKnow) {
  const auto refusal = [](const Json& quantization) -> std::string {
    auto json = read_json(kGolden / "deepseek_v3/config.json");
    json["quantization_config"] = quantization;
    try {
      config_from_hf(json, "config.json", true);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  const auto says = [&](const std::string& key, const Json& value, const std::string& words) {
    auto quantization = Fp8Form().quantization;
    quantization[key] = value;
    EXPECT_NE(refusal(quantization).find("config.json: quantization_config." + key + ": " + words),
              std::string::npos)
        << refusal(quantization);
  };
  EXPECT_EQ(refusal(Fp8Form().quantization), "");
  says("quant_method", "hqq",
       "'hqq' is not read here; known: fp8, compressed-tensors, fbgemm_fp8, bitsandbytes");
  says("fmt", "e5m2", "found 'e5m2', expected 'e4m3'");
  says("weight_block_size", {128}, "expected two positive whole numbers");
  says("zero_points", true, "is not known here, and might change what the weights are");
  says("activation_scheme", "per_block", "found 'per_block'");
}

TEST(Fp8, ScalesOfAnotherShapeOrNoneAreNamed) {
  const Fp8Pair pair;
  write_fp8_pair(pair, "deepseek_v3", {});
  const auto load = [&](const Json& quantization) -> std::string {
    const auto file = std::filesystem::path(pair.fp8()) / "config.json";
    auto config = read_json(file);
    config["quantization_config"] = quantization;
    write_text(file, config.dump());
    try {
      load_weights({.path = pair.fp8()});
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  auto other = Fp8Form().quantization;
  other["weight_block_size"] = {16, 8};
  EXPECT_NE(load(other).find("has shape [2, 2]; a matrix [24, 32] in blocks of [16, 8] has [2, 4] scales"),
            std::string::npos)
      << load(other);
  Fp8Form unnamed;
  unnamed.suffix = "_scales";
  const Fp8Pair without;
  write_fp8_pair(without, "deepseek_v3", unnamed);
  try {
    load_weights({.path = without.fp8()});
    FAIL() << "nothing was refused";
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("is F8_E4M3, and no tensor model.layers.0.self_attn.q_a_proj.weight_"
                        "scale_inv has its scales"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
