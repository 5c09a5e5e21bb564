// Writes what tools/peers/check_formats.py then opens with the safetensors, gguf and peft packages.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "base/json.h"
#include "formats/peft_folder.h"
#include "formats/weight_file.h"
#include "where.h"  // tests

namespace retort {
namespace {

// The checker computes the same: ((37 i) mod 101 - 50) / 25, from -2 to 2.
std::vector<float> sawtooth(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>(static_cast<int>(37 * i % 101) - 50) / 25.0f;
  return values;
}

TensorSource encoded(const std::string& name, WeightType type, const std::vector<int64_t>& shape) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  const auto columns = shape.back();
  const auto values = sawtooth(static_cast<size_t>(rows * columns));
  auto data = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(rows) *
                                                       *row_bytes(type, static_cast<uint64_t>(columns)));
  quantize_rows(type, values.data(), data->data(), rows, columns);
  return {name, type, shape, [data](const auto& sink) { sink(*data); }};
}

}  // namespace

TEST(PeerFiles, AreWritten) {
  const auto folder = std::filesystem::path(binary_dir()) / "peer_files";
  std::filesystem::remove_all(folder);
  std::vector<TensorSource> quantized = {encoded("norm.weight", WeightType::f32, {7})};
  for (const auto& info : all_types())
    if (info.ggml_id >= 0 && info.quantize && info.block_elements > 1)
      quantized.push_back(encoded(std::string(info.name) + ".weight", info.type, {2, 3, 512}));
  for (const auto type : {WeightType::f32, WeightType::f16, WeightType::bf16})
    quantized.push_back(encoded(std::string(type_info(type).name) + ".weight", type, {3, 5}));
  EXPECT_GE(quantized.size(), 14u);
  write_gguf(folder / "all.gguf",
             {{"general.architecture", std::string("llama")},
              {"general.alignment", uint32_t{64}},
              {"words", GgufArray(std::vector<std::string>{"a", "Größe", ""})},
              {"large", uint64_t{1} << 63},
              {"tenth", 0.1},
              {"yes", true},
              {"ids", GgufArray(std::vector<int32_t>{3, -4})}},
             quantized);

  const std::vector<TensorSource> dense = {encoded("model.a", WeightType::f32, {3, 5}),
                                           encoded("model.b", WeightType::bf16, {4}),
                                           encoded("model.c", WeightType::f16, {2, 2, 2})};
  write_safetensors_folder(folder / "sharded", dense, 64);
  write_safetensors_folder(folder / "single", dense, 1 << 20);

  PeftConfig config;  // for the tiny Llama that the checker makes
  config.r = 2;
  config.lora_alpha = 6;
  config.use_rslora = true;
  config.use_dora = true;
  config.target_modules = {"q_proj", "down_proj"};
  config.modules_to_save = {"lm_head"};
  config.alpha_pattern = {{"down_proj", 9}};
  const std::string q = "model.layers.0.self_attn.q_proj", down = "model.layers.0.mlp.down_proj";
  const auto part = [](const std::string& module, const std::string& name,
                       const std::vector<int64_t>& shape) {
    return encoded(peft_name(module, name), WeightType::f32, shape);
  };
  write_peft_folder(folder / "adapter", config,
                    {part(q, "lora_A.weight", {2, 8}), part(q, "lora_B.weight", {8, 2}),
                     part(q, "lora_magnitude_vector", {8}), part(down, "lora_A.weight", {2, 12}),
                     part(down, "lora_B.weight", {8, 2}), part(down, "lora_magnitude_vector", {8}),
                     part("lm_head", "weight", {11, 8})});
  EXPECT_EQ(open_peft_folder(folder / "adapter").modules.size(), 2u);
  EXPECT_EQ(open_weights(folder / "sharded").tensors.size(), 3u);
  EXPECT_EQ(open_weights(folder / "all.gguf").tensors.size(), quantized.size());
}

}  // namespace retort
