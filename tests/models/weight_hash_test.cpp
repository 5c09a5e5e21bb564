// Ranks that divide a model's layers hash the files of their own layers, and have one process's hash
// together.
#include "models/weight_hash.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "formats/weight_file.h"
#include "train/peers_of_threads.h"  // tests/train
#include "where.h"                   // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

// A model whose layers 0, 1 and 2 have a file each, and what is in no layer another one.
void write_shards(const fs::path& folder) {
  const auto golden = fs::path(source_dir()) / "tests/golden/models/deepseek_v3";
  const auto file = open_safetensors_folder(golden);
  fs::create_directories(folder);
  fs::copy(golden / "config.json", folder / "config.json");
  auto index = Json::object();
  for (const std::string part : {"0", "1", "2", "rest"}) {
    const auto name = "model-" + part + ".safetensors";
    std::vector<TensorSource> tensors;
    for (const auto& tensor : file.tensors) {
      const bool in_layer = tensor.name.starts_with("model.layers.");
      if (in_layer ? !tensor.name.starts_with("model.layers." + part + ".") : part != "rest") continue;
      tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
      index[tensor.name] = name;
    }
    write_safetensors(folder / name, tensors, {{"format", "pt"}});
  }
  write_text(folder / "model.safetensors.index.json", Json{{"weight_map", index}}.dump());
}

// The last number of a file is another one.
void change(const fs::path& file) {
  auto bytes = read_text(file);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_text(file, bytes);
}

constexpr const char* kCopies[] = {"a", "b"};

class HashByRanks : public testing::Test {
 protected:
  HashByRanks() {
    for (const auto* copy : kCopies) write_shards(folder / copy);
    alone = load_weights({.path = folder / "a"}).sha256.get();
  }
  // Rank 0 has the copy a with layers 0 and 1, rank 1 the copy b with layer 2.
  std::vector<std::string> hashes(std::vector<std::exception_ptr>& thrown,
                                  const std::vector<Share>& layers_of_ranks = {{0, 2}, {2, 3}}) const {
    std::vector<std::string> found(2);
    thrown = as_ranks(2, [&](Peers& peers) {
      const auto rank = static_cast<size_t>(peers.rank());
      const auto loaded = load_weights({.path = folder / kCopies[rank]});
      found[rank] = hash_by_ranks(peers, loaded, layers_of_ranks).value();
    });
    return found;
  }
  void expect_hash(const std::string& want) const {
    std::vector<std::exception_ptr> thrown;
    const auto found = hashes(thrown);
    for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
    EXPECT_EQ(found, std::vector(2, want));
  }

  TemporaryFolder folder;
  std::string alone;
};

}  // namespace

TEST_F(HashByRanks, IsThatOfOneProcess) {
  EXPECT_EQ(alone.size(), 64u);
  expect_hash(alone);
}

TEST_F(HashByRanks, ARankDoesNotReadTheFilesOfOthersLayers) {
  change(folder / "a/model-2.safetensors");
  change(folder / "b/model-0.safetensors");
  expect_hash(alone);
}

TEST_F(HashByRanks, WhatARankReadsIsPartOfIt) {
  change(folder / "b/model-2.safetensors");
  std::vector<std::exception_ptr> thrown;
  const auto found = hashes(thrown);
  EXPECT_EQ(found[0], found[1]);
  EXPECT_NE(found[0], alone);
  EXPECT_EQ(found[0].size(), 64u);
}

// As of a model whose config.json says two layers: the third, as one that predicts further tokens, is rank
// 0's to hash.
TEST_F(HashByRanks, ALayerThatNobodyComputesIsPartOfIt) {
  change(folder / "b/model-2.safetensors");
  std::vector<std::exception_ptr> thrown;
  EXPECT_EQ(hashes(thrown, {{0, 1}, {1, 2}}), std::vector(2, alone));
}

TEST_F(HashByRanks, AFileOfAllRanksThatDiffersIsRefusedByName) {
  change(folder / "b/model-rest.safetensors");
  std::vector<std::exception_ptr> thrown;
  hashes(thrown);
  EXPECT_TRUE(text_of(thrown[0]).starts_with(
      "rank 1 on host 2: model-rest.safetensors is not the file that another rank has under this name"))
      << text_of(thrown[0]);
}

TEST_F(HashByRanks, AFolderCutOtherwiseIsRefused) {
  const fs::path whole = folder / "whole";
  fs::create_directories(whole);
  for (const auto* name : {"config.json", "model.safetensors"})
    fs::copy(fs::path(source_dir()) / "tests/golden/models/deepseek_v3" / name, whole / name);
  fs::remove_all(folder / "b");
  fs::rename(whole, folder / "b");
  std::vector<std::exception_ptr> thrown;
  hashes(thrown);
  EXPECT_TRUE(text_of(thrown[0]).starts_with(
      "rank 1 on host 2 reads model.safetensors, which is no file of rank 0 on host 1's model"))
      << text_of(thrown[0]);
}

}  // namespace retort
