// Reading layer-major gives the hidden states of Model::hidden(), to the bit, whatever room there is.
#include "schedule/read.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/stop.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/layer_stream.h"
#include "ops/workers.h"
#include "schedule/layers.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(source_dir()) / "tests/golden" / name;
}

std::vector<Forest> forests() {
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 9; ++i) {
    Sample sample;
    for (int32_t t = 0; t < 6 + i * 3; ++t) sample.tokens.push_back((t < 5 ? t : t * 7 + i * 13) % 90 + 3);
    sample.weights.assign(sample.tokens.size(), 1.0f);
    samples.push_back(std::move(sample));
  }
  return build_forests(samples, 48);
}

LoadedModel load(const std::string& family, const std::string& schedule, const std::string& memory,
                 const std::string& weights = "keep", const std::string& scratch = "") {
  return load_weights({.path = golden_folder("models/" + family).string(),
                       .weights = weights,
                       .schedule = schedule,
                       .memory = memory,
                       .scratch = scratch});
}

std::vector<Tensor> hidden_of(const Model& model, const std::vector<Forest>& texts, at::ScalarType compute,
                              bool targets_only, int64_t threads) {
  std::vector<int64_t> all;
  for (size_t i = 0; i < texts.size(); ++i) all.push_back(static_cast<int64_t>(i));
  const auto pass_of = [&](int64_t i) {
    auto pass = make_pass(texts[static_cast<size_t>(i)], compute);
    if (targets_only) ask_for(pass, {0, 3});
    return pass;
  };
  std::vector<Tensor> hidden(texts.size());
  read_texts({{model, pass_of}}, all, threads, "reading",
             [&](int64_t i, Read&& read) { hidden[static_cast<size_t>(i)] = read.hidden[0]; });
  return hidden;
}

}  // namespace

TEST(ReadTexts, LayerMajorGivesTheBitsOfTokenMajor) {
  const auto texts = forests();
  ASSERT_GT(texts.size(), 2u);
  for (const auto* family : {"llama",
                             "gemma2",
                             "gemma3",
                             "qwen2",
                             "qwen3",
                             "mistral",
                             "olmo3",
                             "phi4_mini",
                             "smollm3",
                             "granite",
                             "glm4",
                             "ministral3",
                             "mixtral",
                             "qwen3_moe",
                             "qwen3_moe_plain",
                             "qwen3_moe_dense",
                             "deepseek_v3",
                             "deepseek_v3_plain",
                             "deepseek_v32",
                             "deepseek_v32_sparse",
                             "deepseek_v2",
                             "deepseek_v2_groups",
                             "glm4_moe_lite",
                             "glm4_moe_lite_mixed",
                             "kimi_k2",
                             "mistral4",
                             "mistral4_groups"})
    for (const auto* memory : {"1B", "40KiB", "1GiB"})
      for (const bool targets_only : {false, true}) {
        const auto resident = load(family, "tokens", ""), streamed = load(family, "layers", memory);
        ASSERT_EQ(resident.model->stream(), nullptr);
        ASSERT_NE(streamed.model->stream(), nullptr);
        for (const auto compute : {at::kFloat, at::kBFloat16}) {
          const auto want = hidden_of(*resident.model, texts, compute, targets_only, 2),
                     found = hidden_of(*streamed.model, texts, compute, targets_only, 2);
          for (size_t i = 0; i < texts.size(); ++i)
            EXPECT_TRUE(at::equal(want[i], found[i])) << family << " " << memory << " text " << i;
        }
      }
}

// One group of texts, however little memory there is: each layer is read once.
TEST(ReadTexts, TextsThatWaitInAScratchFolderGetTheSameBits) {
  const auto texts = forests();
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  for (const auto* family : {"llama", "gemma3", "mixtral", "qwen3_moe_dense", "deepseek_v32"})
    for (const bool targets_only : {false, true})
      for (const auto compute : {at::kFloat, at::kBFloat16}) {
        const auto resident = load(family, "tokens", ""),
                   streamed = load(family, "layers", "1B", "keep", scratch);
        const auto want = hidden_of(*resident.model, texts, compute, targets_only, 2),
                   found = hidden_of(*streamed.model, texts, compute, targets_only, 2);
        for (size_t i = 0; i < texts.size(); ++i)
          EXPECT_TRUE(at::equal(want[i], found[i])) << family << " text " << i;
      }
  EXPECT_TRUE(std::filesystem::is_empty(scratch));
  const auto streamed = load("llama", "layers", "1B", "keep", scratch);
  EXPECT_EQ(passes_that_fit(*streamed.model, {10, 10, 10}, 0, at::kFloat, 5), 3u);
}

// Whoever does not walk layers gets the same from a model whose layers are in its file.
TEST(ReadTexts, AModelInItsFileMayBeAskedTokenMajorToo) {
  const auto texts = forests();
  for (const auto* family : {"llama", "qwen3_moe"}) {
    const auto resident = load(family, "tokens", ""), streamed = load(family, "layers", "1B");
    std::vector<Tensor> found(texts.size());
    run_workers(3, static_cast<int64_t>(texts.size()), [&](int64_t i) {
      found[static_cast<size_t>(i)] =
          streamed.model->hidden(make_pass(texts[static_cast<size_t>(i)], at::kFloat));
    });
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_TRUE(at::equal(found[i], resident.model->hidden(make_pass(texts[i], at::kFloat))));
  }
}

TEST(ReadTexts, ConvertedWeightsAreConvertedAsTheyCome) {
  const auto texts = forests();
  for (const auto* weights : {"nf4", "q8_0", "bf16"}) {
    const auto resident = load("llama", "tokens", "", weights),
               streamed = load("llama", "layers", "1B", weights);
    const auto want = hidden_of(*resident.model, texts, at::kFloat, false, 2),
               found = hidden_of(*streamed.model, texts, at::kFloat, false, 2);
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_TRUE(at::equal(want[i], found[i])) << weights;
  }
}

// Tokens of several texts go through an expert together, but for those of a text whose product alone would
// sum in another order: of few rows with these blocks.
TEST(ReadTexts, ExpertsThatReadSeveralTextsTogetherGiveTheSameBits) {
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 9; ++i) {
    Sample sample;
    for (int32_t t = 0; t < 4 + i * 11; ++t) sample.tokens.push_back((t * 7 + i * 13) % 90 + 3);
    sample.weights.assign(sample.tokens.size(), 1.0f);
    samples.push_back(std::move(sample));
  }
  const auto texts = build_forests(samples, 96);
  ASSERT_GT(texts.size(), 3u);
  for (const auto* family : {"qwen3_moe", "deepseek_v3"})
    for (const auto* weights : {"q8_0", "nf4", "keep"})
      for (const auto compute : {at::kFloat, at::kBFloat16})
        for (const int64_t threads : {2, 16}) {
          const auto resident = load(family, "tokens", "", weights),
                     streamed = load(family, "layers", "1MiB", weights);
          const auto want = hidden_of(*resident.model, texts, compute, false, threads),
                     found = hidden_of(*streamed.model, texts, compute, false, threads);
          for (size_t i = 0; i < texts.size(); ++i)
            EXPECT_TRUE(at::equal(want[i], found[i])) << family << " " << weights << " text " << i;
        }
}

TEST(ReadTexts, AutoKeepsWhatFitsInMemory) {
  EXPECT_EQ(load("llama", "auto", "").model->stream(), nullptr);
  EXPECT_EQ(load("llama", "auto", "1GiB").model->stream(), nullptr);
  EXPECT_NE(load("llama", "auto", "1KiB").model->stream(), nullptr);
  EXPECT_EQ(load("llama", "tokens", "1KiB").model->stream(), nullptr);
  EXPECT_THROW(load("llama", "layers", "a lot"), RecipeError);
}

TEST(ReadTexts, AStopEndsThePass) {
  const auto streamed = load("llama", "layers", "1B");
  request_stop();
  EXPECT_THROW(hidden_of(*streamed.model, forests(), at::kFloat, false, 2), Stopped);
  forget_stop();
}

}  // namespace retort
