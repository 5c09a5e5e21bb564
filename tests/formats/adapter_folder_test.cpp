// What an adapter's folder holds, in PEFT's words and in mlx-lm's.
#include "formats/adapter_folder.h"

#include <gtest/gtest.h>

#include "formats/float_tensors.h"  // tests/formats
#include "formats/made_files.h"     // tests/formats
#include "formats/mlx_adapter.h"

namespace retort {
namespace {

constexpr const char* kMlx =
    R"({"fine_tune_type": "lora", "num_layers": 8, "model": "m", "lora_parameters": )"
    R"({"rank": 2, "scale": 10.0, "dropout": 0.05, "keys": ["self_attn.q_proj"]}})";

std::string q(int layer) { return fmt::format("model.layers.{}.self_attn.q_proj", layer); }

std::string mlx_error(const std::string& config, const std::vector<TensorSource>& tensors) {
  TemporaryFolder folder;
  folder.put("adapter_config.json", config);
  write_safetensors(folder.path / "adapters.safetensors", tensors, {});
  try {
    open_adapter_folder(folder.path);
  } catch (const FormatError& error) { return error.what(); }
  return "accepted";
}

}  // namespace

TEST(AdapterFolder, ReadsTheLayoutOfMlx) {
  TemporaryFolder folder;
  folder.put("adapter_config.json", kMlx);
  write_safetensors(folder.path / "adapters.safetensors",
                    {floats(q(0) + ".lora_a", {4, 2}), floats(q(0) + ".lora_b", {2, 3})}, {});
  const auto adapter = open_adapter_folder(folder.path);
  ASSERT_EQ(adapter.modules.size(), 1u);
  EXPECT_EQ(adapter.modules[0].name, q(0));
  EXPECT_TRUE(adapter.modules[0].transposed);
  EXPECT_EQ(adapter.modules[0].scaling, 10);  // not divided by the rank
  const auto summary = summary_of(adapter);
  EXPECT_EQ(summary.kind, "lora");
  EXPECT_EQ(summary.rank, 2);
  EXPECT_EQ(summary.alpha, 20);  // alpha / rank = scale
  EXPECT_EQ(summary.dropout, 0.05);
  EXPECT_EQ(summary.elements, 14);
}

TEST(AdapterFolder, RefusesOfMlxWhatItWouldComputeWrongly) {
  const auto a = floats(q(0) + ".lora_a", {4, 2}), b = floats(q(0) + ".lora_b", {2, 3});
  const auto config = [](const std::string& type, const std::string& parameters) {
    return fmt::format(R"({{"fine_tune_type": "{}", "lora_parameters": {}}})", type, parameters);
  };
  const std::string plain = R"({"rank": 2, "scale": 10.0})";
  EXPECT_EQ(mlx_error(config("lora", plain), {a, b}), "accepted");
  EXPECT_TRUE(says(mlx_error(config("full", plain), {a, b}), "fine_tune_type: is \"full\"; only lora"));
  EXPECT_TRUE(says(mlx_error(config("lora", R"({"rank": 2})"), {a, b}), "lora_parameters.scale: expected a"));
  EXPECT_TRUE(says(mlx_error(config("lora", R"({"rank": 2.5, "scale": 1})"), {a, b}), "whole number"));
  EXPECT_TRUE(says(mlx_error(config("lora", R"({"rank": 2, "alpha": 16, "scale": 10.0})"), {a, b}),
                   "scales by scale * alpha / rank = 80, later ones by scale = 10"));
  EXPECT_EQ(mlx_error(config("lora", R"({"rank": 2, "alpha": 2, "scale": 10.0})"), {a, b}), "accepted");
  EXPECT_TRUE(says(mlx_error(config("lora", plain), {a}), "lora_b is missing"));
  // As PEFT stores them: a mistake of a converter, which would pass for a square matrix.
  EXPECT_TRUE(says(mlx_error(config("lora", plain), {floats(q(0) + ".lora_a", {2, 4}), b}), "rank 2"));
  EXPECT_TRUE(
      says(mlx_error(config("lora", plain), {a, b, floats(q(0) + ".m", {3})}), "no part of an adapter"));
  EXPECT_TRUE(
      says(mlx_error(config("dora", plain), {a, b}), "fine_tune_type: dora is set, but m is missing"));
  EXPECT_EQ(mlx_error(config("dora", plain), {a, b, floats(q(0) + ".m", {3})}), "accepted");
  EXPECT_TRUE(
      says(mlx_error(config("lora", plain), {floats("model.layers.0.mlp.switch_mlp.up_proj.lora_a", {1})}),
           "adapts all experts of a layer as one tensor"));
  EXPECT_TRUE(says(mlx_error(config("lora", plain), {}), "holds no tensors"));
}

// A recipe that starts from the adapter names its layers so; those of some layers only by whole names.
TEST(AdapterFolder, TargetsNameJustTheLayersThatAreAdapted) {
  const auto targets = [](const std::vector<int>& layers) {
    TemporaryFolder folder;
    PeftConfig config;
    config.r = 2, config.target_modules = {"q_proj"};
    std::vector<TensorSource> tensors;
    for (const int layer : layers) {
      tensors.push_back(floats(peft_name(q(layer), "lora_A.weight"), {2, 4}));
      tensors.push_back(floats(peft_name(q(layer), "lora_B.weight"), {3, 2}));
    }
    tensors.push_back(floats(peft_name("model.language_model.norm", "weight"), {4}));
    write_peft_folder(folder.path, config, tensors);
    const auto summary = summary_of(open_adapter_folder(folder.path));
    EXPECT_EQ(summary.modules_to_save, std::vector<std::string>{"model.norm"});
    return summary.targets;
  };
  EXPECT_EQ(targets({0, 1, 2}), std::vector<std::string>{"q_proj"});
  EXPECT_EQ(targets({1, 2}), (std::vector<std::string>{q(1), q(2)}));
}

}  // namespace retort
