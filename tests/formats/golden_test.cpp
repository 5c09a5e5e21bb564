// Files written by the safetensors, gguf and peft packages (tools/golden/formats.py) are read to the values
// that were put in.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/json.h"
#include "formats/made_files.h"
#include "formats/peft_folder.h"
#include "formats/weight_file.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(source_dir()) / "tests/golden/formats";

std::string hex(std::span<const std::byte> data) {
  std::string text;
  for (const auto byte : data) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

}  // namespace

TEST(Golden, SafetensorsOfThePackage) {
  const auto golden = read_json(kGolden / "formats.json")["safetensors"];
  const std::map<std::string, std::string> kTypes = {
      {"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"}, {"uint8", "U8"},
      {"bool", "BOOL"},   {"int64", "I64"},   {"float64", "F64"},   {"float8_e4m3fn", "F8_E4M3"}};
  const auto weights = open_weights(kGolden / "small.safetensors");
  EXPECT_EQ(weights.safetensors_metadata,
            (std::map<std::string, std::string>{{"format", "pt"}, {"by", "safetensors"}}));
  EXPECT_EQ(weights.tensors.size(), golden.size());
  for (const auto& [name, expected] : golden.items()) {
    const auto* tensor = weights.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(type_info(tensor->type).safetensors, kTypes.at(expected["type"])) << name;
    EXPECT_EQ(tensor->shape, expected["shape"].get<std::vector<int64_t>>()) << name;
    EXPECT_EQ(hex(tensor->data), expected["bytes"].get<std::string>()) << name;
  }
}

TEST(Golden, SafetensorsAreWrittenToThePackagesBytes) {
  TemporaryFolder folder;
  const auto weights = open_weights(kGolden / "small.safetensors");
  std::vector<TensorSource> sources;
  for (const auto& tensor : weights.tensors)
    sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
  std::reverse(sources.begin(), sources.end());  // the writer's own order counts
  write_safetensors(folder.path / "again.safetensors", sources, weights.safetensors_metadata);
  const auto original = read_text(kGolden / "small.safetensors"),
             again = read_text(folder.path / "again.safetensors");
  ASSERT_EQ(again.size(), original.size());
  const auto header = 8 + static_cast<size_t>(static_cast<unsigned char>(original[0])) +
                      256 * static_cast<unsigned char>(original[1]);
  EXPECT_EQ(again.substr(header), original.substr(header));  // the same order and places
  // The package keeps its metadata in a hash map; everything after them is equal byte for byte.
  EXPECT_EQ(again.substr(again.find("},\"long\""), header),
            original.substr(original.find("},\"long\""), header));
}

TEST(Golden, GgufOfThePackage) {
  const auto golden = read_json(kGolden / "formats.json")["gguf"];
  const auto weights = open_weights(kGolden / "small.gguf");
  EXPECT_EQ(*text(weights.metadata("general.architecture")), "llama");
  EXPECT_EQ(whole_number(weights.metadata("llama.block_count")), 2);
  EXPECT_EQ(real_number(weights.metadata("llama.rope.freq_base")), 100000.0);
  EXPECT_EQ(truth(weights.metadata("small.yes")), true);
  EXPECT_EQ(std::get<uint64_t>(*weights.metadata("small.large")), (uint64_t{1} << 63) + 5);
  EXPECT_EQ(whole_number(weights.metadata("small.large")), std::nullopt);  // does not fit a signed number
  EXPECT_EQ(real_number(weights.metadata("small.tenth")), 0.1);
  EXPECT_EQ(whole_number(weights.metadata("small.negative")), -300);
  EXPECT_EQ(*list<std::string>(weights.metadata("small.words")),
            (std::vector<std::string>{"a", "Größe", ""}));
  EXPECT_EQ(*list<float>(weights.metadata("small.numbers")), (std::vector<float>{1.5, -2.25}));
  EXPECT_EQ(*list<int32_t>(weights.metadata("small.ids")), (std::vector<int32_t>{3, -4}));
  EXPECT_EQ(weights.tensors.size(), golden.size());
  for (const auto& [name, expected] : golden.items()) {
    const auto* tensor = weights.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(type_info(tensor->type).name, expected["type"].get<std::string>()) << name;
    EXPECT_EQ(tensor->shape, expected["shape"].get<std::vector<int64_t>>()) << name;
    EXPECT_EQ(hex(tensor->data), expected["bytes"].get<std::string>()) << name;
  }
}

TEST(Golden, GgufIsWrittenToThePackagesBytes) {
  TemporaryFolder folder;
  const auto weights = open_weights(kGolden / "small.gguf");
  std::vector<TensorSource> sources;
  for (const auto& tensor : weights.tensors)
    sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
  write_gguf(folder.path / "again.gguf", weights.gguf_metadata, sources);
  EXPECT_EQ(read_text(folder.path / "again.gguf"), read_text(kGolden / "small.gguf"));
}

TEST(Golden, PeftFolderOfThePackage) {
  const auto golden = read_json(kGolden / "formats.json")["peft"];
  const auto adapter = open_peft_folder(kGolden / "adapter");
  EXPECT_EQ(adapter.config.r, 2);
  EXPECT_EQ(adapter.config.lora_alpha, 6);
  EXPECT_EQ(adapter.config.lora_dropout, 0.25);
  EXPECT_EQ(adapter.config.target_modules, (std::vector<std::string>{"down_proj", "q_proj", "v_proj"}));
  EXPECT_TRUE(adapter.config.use_dora);
  EXPECT_TRUE(adapter.config.use_rslora);
  EXPECT_EQ(adapter.config.modules_to_save, std::vector<std::string>{"lm_head"});
  ASSERT_EQ(adapter.modules.size(), golden.size());
  for (const auto& module : adapter.modules) {
    const auto& expected = golden.at(module.name);
    EXPECT_EQ(module.a->shape[0], expected["rank"]) << module.name;
    EXPECT_NEAR(module.scaling, expected["scaling"].get<double>(), 1e-12)
        << module.name;  // PEFT's own, through its patterns
    EXPECT_EQ(module.magnitude->shape, std::vector<int64_t>{module.b->shape[0]});
    std::vector<float> a(static_cast<size_t>(module.a->elements()));
    std::memcpy(a.data(), module.a->data.data(), module.a->data.size());
    double sum = 0;
    for (const float value : a) sum += value;
    EXPECT_NEAR(sum, expected["a_sum"].get<double>(), 1e-6) << module.name;
  }
  ASSERT_EQ(adapter.saved.size(), 1u);
  EXPECT_EQ(adapter.saved[0].name, "lm_head.weight");
  EXPECT_EQ(adapter.saved[0].tensor->shape, (std::vector<int64_t>{11, 8}));
  // Written again, the config says the same, key by key.
  EXPECT_EQ(Json::parse(peft_config_text(adapter.config)),
            read_json(kGolden / "adapter/adapter_config.json"));
}

}  // namespace retort
