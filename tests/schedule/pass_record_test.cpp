// A pass that was stopped goes on in the layer that it was in, and ends with the same bits.
#include "schedule/pass_record.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "base/stop.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/model.h"
#include "schedule/read.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

LoadedModel load(const std::string& family, const std::string& scratch) {
  const auto folder = fs::path(source_dir()) / "tests/golden/models" / family;
  return load_weights({.path = folder.string(), .schedule = "layers", .memory = "1B", .scratch = scratch});
}

std::vector<Forest> texts() {
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 6; ++i) {
    Sample sample;
    for (int32_t t = 0; t < 8 + i * 3; ++t) sample.tokens.push_back((t * 7 + i * 13) % 90 + 3);
    sample.weights.assign(sample.tokens.size(), 1.0f);
    samples.push_back(std::move(sample));
  }
  return build_forests(samples, 24);
}

// Reads all texts; with `stop_in` a stop is asked for when a text leaves that layer. `left`: texts that left
// each layer.
std::vector<Tensor> read(const Model& model, PassRecord* record, int64_t stop_in,
                         std::map<int64_t, int>& left) {
  const auto forests = texts();
  std::mutex counting;
  const auto pass_of = [&](int64_t i) {
    auto pass = make_pass(forests[static_cast<size_t>(i)], at::kFloat);
    pass.after_layer = [&](int64_t layer, const Tensor&) {
      const std::lock_guard lock(counting);
      ++left[layer];
      if (layer == stop_in) request_stop();
    };
    return pass;
  };
  std::vector<int64_t> all;
  for (size_t i = 0; i < forests.size(); ++i) all.push_back(static_cast<int64_t>(i));
  std::vector<Tensor> hidden(forests.size());
  read_texts({{model, pass_of, record}}, all, 1, "reading",
             [&](int64_t i, Read&& read) { hidden[static_cast<size_t>(i)] = read.hidden[0].clone(); });
  return hidden;
}

class StoppedPass : public testing::TestWithParam<const char*> {};

TEST_P(StoppedPass, GoesOnInItsLayer) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  const auto loaded = load(GetParam(), scratch);
  const auto& model = *loaded.model;
  const auto layers = model.config.layers;
  const auto count = static_cast<int>(texts().size());
  ASSERT_GT(count, 2);
  ASSERT_GE(layers, 2);
  std::map<int64_t, int> left;
  const auto want = read(model, nullptr, -1, left);
  EXPECT_EQ(left[0], count);
  for (int64_t stop = 0; stop + 1 < layers; ++stop) {
    left.clear();
    {
      PassRecord record(scratch, "one");
      EXPECT_THROW(read(model, &record, stop, left), Stopped);
      forget_stop();
    }
    const auto before = left;
    left.clear();
    PassRecord record(scratch, "one");
    const auto found = read(model, &record, -1, left);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(want[i], found[i])) << stop << " " << i;
    for (int64_t layer = 0; layer < stop; ++layer) EXPECT_EQ(left[layer], 0) << stop << " " << layer;
    if (!model.experts_of(stop)) { EXPECT_EQ(left[stop], count - before.at(stop)) << stop; }
    EXPECT_EQ(left[layers - 1], count);
    record.remove();
    EXPECT_TRUE(fs::is_empty(scratch));
  }
}
INSTANTIATE_TEST_SUITE_P(Families, StoppedPass,
                         testing::Values("llama", "gemma3", "mixtral", "qwen3_moe_dense", "deepseek_v3"));

TEST(PassRecord, WhatWasDamagedBeginsAnew) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  const auto loaded = load("llama", scratch);
  std::map<int64_t, int> left;
  const auto want = read(*loaded.model, nullptr, -1, left);
  {
    PassRecord record(scratch, "one");
    read(*loaded.model, &record, -1, left);
  }
  fs::path file;
  for (const auto& entry : fs::directory_iterator(scratch)) file = entry.path();
  {  // both places of the last text, whose numbers end the file
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(-2 * 4096, std::ios::end);
    for (int i = 0; i < 2 * 4096; ++i) bytes.put('x');
  }
  left.clear();
  PassRecord record(scratch, "one");
  const auto found = read(*loaded.model, &record, -1, left);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(want[i], found[i])) << i;
  for (int64_t layer = 0; layer < loaded.model->config.layers; ++layer) EXPECT_EQ(left[layer], 1) << layer;
}

TEST(PassRecord, RemovesWhatOthersLeftAndNothingElse) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  const PassRecord at_work(scratch, "one");
  folder.write("scratch/thesis.bin", "a user's");
  folder.write("scratch/retort-states-0123456789abcdef.bin", "of a killed process");
  EXPECT_THROW(PassRecord(scratch, "one"), Failure);
  const PassRecord another(scratch, "two");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(scratch)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  ASSERT_EQ(names.size(), 3u);
  EXPECT_EQ(names.back(), "thesis.bin");
  EXPECT_EQ(std::ranges::count(names, "retort-states-0123456789abcdef.bin"), 0);
}

}  // namespace
}  // namespace retort
