#include "formats/inspect.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "formats/made_files.h"
#include "formats/weight_file.h"

namespace retort {
namespace {

std::filesystem::path made_model(const TemporaryFolder& folder) {
  static const std::vector<std::byte> zeros(4096);
  write_gguf(folder.path / "m.gguf",
             {{"general.architecture", std::string("llama")},
              {"tokens", GgufArray(std::vector<std::string>(20, "\xffx"))},
              {"note", std::string(500, 'n')},
              {"eps", 0.5f},
              {"flag", true},
              {"byte", uint8_t{65}}},
             {tensor_source("norm", WeightType::f32, {4}, std::span(zeros).first(16)),
              tensor_source("w", WeightType::q4_0, {2, 64}, std::span(zeros).first(72))});
  return folder.path / "m.gguf";
}

}  // namespace

TEST(Inspect, ListsTensorsMetadataTotalsAndHashes) {
  TemporaryFolder folder;
  const auto file = made_model(folder);
  const auto listing = inspect(file);
  EXPECT_TRUE(says(listing, "sha256 " + sha256_file(file)));
  EXPECT_TRUE(says(listing, "2 tensors"));
  EXPECT_TRUE(says(listing, "20 x ['\\xffx', "));
  EXPECT_TRUE(says(listing, "...' (500 bytes)"));
  EXPECT_EQ(listing.find(std::string(100, 'n')), listing.npos);
  EXPECT_TRUE(says(listing, "u8     65"));
  EXPECT_TRUE(says(listing, "Q4_0            1              128               72         4.50"));
  EXPECT_TRUE(says(listing, "all             2              132               88         5.33"));
}

TEST(Inspect, SpeaksJson) {
  TemporaryFolder folder;
  const auto file = made_model(folder);
  InspectOptions options;
  options.json = true;
  options.hashes = InspectHashes::files_and_tensors;
  const auto listing = Json::parse(inspect(file, options));
  EXPECT_EQ(listing["files"][0]["sha256"], sha256_file(file));
  EXPECT_EQ(listing["metadata"]["tokens"]["value"]["length"], 20);
  EXPECT_EQ(listing["metadata"]["tokens"]["value"]["first"].size(), 8u);
  EXPECT_EQ(listing["metadata"]["general.architecture"]["value"], "llama");
  EXPECT_EQ(listing["total"], Json::parse(R"({"tensors": 2, "parameters": 132, "bytes": 88})"));
  EXPECT_EQ(listing["tensors"][1],
            Json::parse(R"({"name": "w", "type": "Q4_0", "shape": [2, 64], "bytes": 72, "sha256": ")" +
                        sha256(std::string(72, '\0')) + "\"}"));
}

TEST(Inspect, ReadsFoldersOfShards) {
  TemporaryFolder folder;
  static const std::vector<std::byte> zeros(64);
  write_safetensors_folder(folder.path,
                           {tensor_source("a", WeightType::f32, {4}, std::span(zeros).first(16)),
                            tensor_source("b", WeightType::f32, {4}, std::span(zeros).first(16))},
                           16);
  const auto listing = inspect(folder.path);
  EXPECT_TRUE(says(listing, "model-00001-of-00002.safetensors"));
  EXPECT_TRUE(says(listing, "model-00002-of-00002.safetensors"));
  EXPECT_TRUE(says(listing, "'pt'"));
}

}  // namespace retort
