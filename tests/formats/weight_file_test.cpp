#include "formats/weight_file.h"

#include <gtest/gtest.h>

#include <map>

#include "formats/made_files.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::vector<std::byte> counted(size_t count) {
  std::vector<std::byte> data(count);
  for (size_t i = 0; i < count; ++i) data[i] = static_cast<std::byte>(i * 7 + 1);
  return data;
}

void expect_same_bytes(const TensorView& tensor, std::span<const std::byte> expected) {
  ASSERT_EQ(tensor.data.size(), expected.size()) << tensor.name;
  EXPECT_EQ(std::memcmp(tensor.data.data(), expected.data(), expected.size()), 0) << tensor.name;
}

}  // namespace

TEST(Safetensors, WritesTheReferencesLayout) {
  TemporaryFolder folder;
  const auto data = counted(16);
  const auto part = [&](size_t bytes) { return std::span(data).first(bytes); };
  write_safetensors(
      folder.path / "x.safetensors",
      {tensor_source("b", WeightType::bf16, {2}, part(4)),
       tensor_source("z", WeightType::f32, {1, 2}, part(8)),
       tensor_source("a", WeightType::bf16, {}, part(2)), tensor_source("u", WeightType::u8, {3}, part(3))},
      {{"format", "pt"}});
  const auto content = read_text(folder.path / "x.safetensors");
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},"b":{"dtype":"BF16","shape":[2],)"
      R"("data_offsets":[10,14]},)"
      R"("u":{"dtype":"U8","shape":[3],"data_offsets":[14,17]}})";
  const uint64_t padded = (header.size() + 7) / 8 * 8;
  EXPECT_EQ(content.substr(0, 8), le(padded));
  EXPECT_EQ(content.substr(8, padded), header + std::string(padded - header.size(), ' '));
  EXPECT_EQ(content.size(), 8 + padded + 17);

  const auto weights = open_weights(folder.path / "x.safetensors");
  ASSERT_EQ(weights.tensors.size(), 4u);
  EXPECT_EQ(weights.tensors[0].name, "z");
  EXPECT_EQ(weights.safetensors_metadata.at("format"), "pt");
  ASSERT_NE(weights.find("b"), nullptr);
  EXPECT_EQ(weights.find("b")->shape, std::vector<int64_t>{2});
  EXPECT_EQ(weights.find("a")->elements(), 1);
  expect_same_bytes(*weights.find("u"), part(3));
  EXPECT_EQ(weights.find("c"), nullptr);
  weights.require_unchanged();
}

TEST(SafetensorsFolder, SplitsIntoShardsWithAnIndex) {
  TemporaryFolder folder;
  const auto data = counted(64);
  std::vector<TensorSource> sources;
  for (const auto* name : {"a", "b", "c", "d"})
    sources.push_back(tensor_source(name, WeightType::f32, {4}, std::span(data).first(16)));
  sources.push_back(tensor_source("e", WeightType::f32, {16}, data));
  write_safetensors_folder(folder.path, sources, 32);
  EXPECT_EQ(Json::parse(read_text(folder.path / "model.safetensors.index.json")),
            Json::parse(
                R"({"metadata":{"total_parameters":32,"total_size":128},"weight_map":{
              "a":"model-00001-of-00003.safetensors",
              "b":"model-00001-of-00003.safetensors","c":"model-00002-of-00003.safetensors",
              "d":"model-00002-of-00003.safetensors",
              "e":"model-00003-of-00003.safetensors"}})"));
  const auto weights = open_weights(folder.path);
  EXPECT_EQ(weights.tensors.size(), 5u);
  expect_same_bytes(*weights.find("e"), data);

  write_safetensors_folder(folder.path, sources, 1 << 20);  // everything fits: the shards of before are gone
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path))
    names.push_back(entry.path().filename());
  EXPECT_EQ(names, std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(open_weights(folder.path).tensors.size(), 5u);
}

TEST(Gguf, WritesEveryKindOfValueAndReadsItBack) {
  TemporaryFolder folder;
  const std::vector<std::pair<std::string, GgufValue>> metadata = {
      {"general.architecture", std::string("llama")},
      {"u8", uint8_t{200}},
      {"i8", int8_t{-3}},
      {"u16", uint16_t{60000}},
      {"i16", int16_t{-300}},
      {"u32", uint32_t{4000000000}},
      {"i32", int32_t{-5}},
      {"f32", 0.5f},
      {"yes", true},
      {"no", false},
      {"u64", uint64_t{1} << 60},
      {"i64", int64_t{-7}},
      {"f64", 0.1},
      {"strings", GgufArray(std::vector<std::string>{"a", "", std::string("\xff\0z", 3)})},
      {"floats", GgufArray(std::vector<float>{1, -2})},
      {"truths", GgufArray(std::vector<bool>{true, false, true})},
      {"empty", GgufArray(std::vector<int32_t>{})},
      {"general.alignment", uint32_t{64}}};
  const auto data = counted(1024);
  write_gguf(folder.path / "x.gguf", metadata,
             {tensor_source("norm", WeightType::f32, {3}, std::span(data).first(12)),
              tensor_source("blk.0.w", WeightType::q8_0, {2, 32}, std::span(data).first(68)),
              tensor_source("k", WeightType::q4_k, {3, 2, 256}, std::span(data).first(864))});
  const auto weights = open_weights(folder.path / "x.gguf");
  EXPECT_EQ(weights.gguf_metadata, metadata);
  ASSERT_EQ(weights.tensors.size(), 3u);
  EXPECT_EQ(weights.tensors[2].shape, (std::vector<int64_t>{3, 2, 256}));
  EXPECT_EQ(weights.tensors[2].type, WeightType::q4_k);
  expect_same_bytes(weights.tensors[0], std::span(data).first(12));
  expect_same_bytes(*weights.find("blk.0.w"), std::span(data).first(68));
  expect_same_bytes(*weights.find("k"), std::span(data).first(864));
  for (const auto& tensor : weights.tensors)
    EXPECT_EQ((tensor.data.data() - tensor.file->bytes().data()) % 64, 0) << tensor.name;
  EXPECT_EQ(whole_number(weights.metadata("u64")), int64_t{1} << 60);
  EXPECT_EQ(whole_number(weights.metadata("i8")), -3);
  EXPECT_EQ(whole_number(weights.metadata("f32")), std::nullopt);
  EXPECT_EQ(whole_number(weights.metadata("yes")), std::nullopt);
  EXPECT_EQ(real_number(weights.metadata("f64")), 0.1);
  EXPECT_EQ(truth(weights.metadata("no")), false);
  EXPECT_EQ(*text(weights.metadata("general.architecture")), "llama");
  EXPECT_EQ(list<std::string>(weights.metadata("strings"))->size(), 3u);
  EXPECT_EQ(list<float>(weights.metadata("strings")), nullptr);
  EXPECT_EQ(whole_number(weights.metadata("absent")), std::nullopt);
}

TEST(Gguf, OpensASplitModelThroughAnyShard) {
  TemporaryFolder folder;
  const auto data = counted(8);
  for (uint16_t i = 0; i < 3; ++i) {
    std::vector<std::pair<std::string, GgufValue>> metadata = {
        {"split.no", i}, {"split.count", uint16_t{3}}, {"split.tensors.count", int32_t{3}}};
    if (i == 0) metadata.insert(metadata.begin(), {"general.architecture", std::string("llama")});
    write_gguf(folder.path / fmt::format("m-{:05}-of-00003.gguf", i + 1), metadata,
               {tensor_source(fmt::format("t{}", i), WeightType::f32, {2}, data)});
  }
  for (const auto* name : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    const auto weights = open_weights(folder.path / name);
    ASSERT_EQ(weights.tensors.size(), 3u) << name;
    EXPECT_EQ(weights.tensors[1].name, "t1");
    EXPECT_EQ(*text(weights.metadata("general.architecture")), "llama");
  }
  EXPECT_EQ(open_weights(folder.path).tensors.size(), 3u);  // and through the folder
}

TEST(Writers, HoldAFillToItsSizeAndLeaveNothingBehind) {
  TemporaryFolder folder;
  const auto data = counted(8);
  EXPECT_THROW(write_gguf(folder.path / "x.gguf", {}, {tensor_source("t", WeightType::f32, {3}, data)}),
               std::logic_error);
  EXPECT_THROW(
      write_safetensors(folder.path / "x.safetensors", {tensor_source("t", WeightType::f32, {1}, data)}, {}),
      std::logic_error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
}

TEST(Writers, RefuseWhatTheFormatCannotHold) {
  TemporaryFolder folder;
  const auto data = counted(144);
  const auto gguf = [&](const TensorSource& tensor) {
    return format_error([&] { write_gguf(folder.path / "x.gguf", {}, {tensor}); });
  };
  EXPECT_TRUE(says(gguf(tensor_source(std::string(64, 'n'), WeightType::f32, {1}, data)), "1 to 63 bytes"));
  EXPECT_TRUE(says(gguf(tensor_source("t", WeightType::f32, {1, 1, 1, 1, 1}, data)), "5 dimensions"));
  EXPECT_TRUE(says(gguf(tensor_source("t", WeightType::nf4, {64}, data)), "GGUF has no type"));
  EXPECT_TRUE(says(gguf(tensor_source("t", WeightType::q4_k, {255}, data)), "multiple of 256"));
  const auto safetensors = [&](const TensorSource& tensor) {
    return format_error([&] { write_safetensors(folder.path / "x.safetensors", {tensor}, {}); });
  };
  EXPECT_TRUE(says(safetensors(tensor_source("t", WeightType::q4_k, {256}, data)), "no dtype for Q4_K"));
  EXPECT_TRUE(says(safetensors(tensor_source("t\xff", WeightType::f32, {1}, data)), "not valid UTF-8"));
  const auto metadata = [&](const std::vector<std::pair<std::string, GgufValue>>& pairs) {
    return format_error([&] { write_gguf(folder.path / "x.gguf", pairs, {}); });
  };
  EXPECT_TRUE(says(metadata({{"k", true}, {"k", false}}), "stands twice"));
  EXPECT_TRUE(says(metadata({{"general.alignment", uint32_t{24}}}), "power of two"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
}

TEST(RealFile, SmolLm2HoldsWhatItsMakersSay) {
  const std::filesystem::path file =
      std::filesystem::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there; tools/setup fetches it";
  const auto weights = open_weights(file);
  EXPECT_EQ(weights.tensors.size(), 272u);
  std::map<WeightType, int> types;
  for (const auto& tensor : weights.tensors) ++types[tensor.type];
  EXPECT_EQ(types, (std::map<WeightType, int>{
                       {WeightType::q4_1, 210}, {WeightType::f32, 61}, {WeightType::q8_0, 1}}));
  EXPECT_EQ(weights.tensors.front().data.data() - weights.tensors.front().file->bytes().data(), 1'785'664);
  EXPECT_EQ(*text(weights.metadata("general.architecture")), "llama");
  EXPECT_EQ(whole_number(weights.metadata("llama.block_count")), 30);
  EXPECT_EQ(whole_number(weights.metadata("llama.embedding_length")), 576);
  EXPECT_EQ(list<std::string>(weights.metadata("tokenizer.ggml.tokens"))->size(), 49152u);
  EXPECT_EQ(list<std::string>(weights.metadata("tokenizer.ggml.merges"))->size(), 48900u);
  ASSERT_NE(weights.find("token_embd.weight"), nullptr);
  EXPECT_EQ(weights.find("token_embd.weight")->shape, (std::vector<int64_t>{49152, 576}));
  EXPECT_EQ(weights.find("token_embd.weight")->type, WeightType::q8_0);
  EXPECT_EQ(weights.find("blk.0.attn_k.weight")->shape, (std::vector<int64_t>{192, 576}));
}

}  // namespace retort
