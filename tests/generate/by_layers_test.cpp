// Answers of a model whose layers are in its file: the tokens and the states of the same model in memory, and
// one reading of the layers for a token of all texts.
#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "data/temporary_folder.h"  // tests/data
#include "generate/growing_forest.h"
#include "generate/step_cost.h"
#include "schedule/chains.h"
#include "schedule/counted_stream.h"  // tests/schedule
#include "text/byte_tokenizer.h"      // tests/text
#include "where.h"                    // tests

namespace retort {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

std::filesystem::path files_of(const std::string& family) {
  return std::filesystem::path(source_dir()) / "tests/golden/models" / family;
}
LoadedModel load(const std::string& family, const std::string& schedule, const std::string& memory = "",
                 const std::string& scratch = "") {
  return load_weights(
      {.path = files_of(family).string(), .schedule = schedule, .memory = memory, .scratch = scratch});
}

// Some begin alike, two are equal.
Prompts some_prompts(int32_t count) {
  Prompts prompts;
  for (int32_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt;
    for (int32_t t = 0; t < 3 + i % 5 * 4; ++t) prompt.push_back((t < 6 ? t * 5 : t * 7 + i * 13) % 90 + 3);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

std::vector<std::vector<int32_t>> tokens_of(const Model& model, const Prompts& prompts,
                                            at::ScalarType compute, double temperature,
                                            const GenerateSpec& how) {
  const ByteTokenizer tokenizer(std::vector<std::string>{"</s>"});
  SampleSpec sample;
  sample.temperature = temperature;
  sample.max_tokens = 7;
  std::vector<std::vector<int32_t>> tokens;
  // A token that ends answers, so that some end early and others take their places.
  const AnswerRules rules{sample, {{11, 23, 40, 57, 71}, {}}};
  for (const auto& answer : generate({model, tokenizer, compute, how}, prompts, rules))
    tokens.push_back(answer.tokens);
  return tokens;
}

GenerateSpec in_small_parts(int64_t threads) {
  GenerateSpec how;
  how.threads = threads;
  how.batch = 3;
  how.prefill_rows = 5;
  return how;
}

class AnswersByLayers : public testing::TestWithParam<const char*> {};

TEST_P(AnswersByLayers, AreTheTokensOfAModelInMemory) {
  const TemporaryFolder folder;
  const auto prompts = some_prompts(11);
  const auto resident = load(GetParam(), "tokens");
  for (const auto compute : {at::kFloat, at::kBFloat16})
    for (const auto temperature : {0.0, 1.5})
      for (const int64_t threads : {1, 2, 5}) {
        const auto want = tokens_of(*resident.model, prompts, compute, temperature, in_small_parts(threads));
        for (const auto& [memory, scratch] :
             {std::pair("1B", std::string()), std::pair("64KiB", std::string()),
              std::pair("1GiB", std::string()), std::pair("1B", folder / "scratch")}) {
          const auto streamed = load(GetParam(), "layers", memory, scratch);
          ASSERT_NE(streamed.model->stream(), nullptr);
          EXPECT_EQ(tokens_of(*streamed.model, prompts, compute, temperature, in_small_parts(threads)), want)
              << memory << " " << scratch << " " << threads << " threads, temperature " << temperature;
        }
      }
}

// Prompts in several passes, steps, texts that leave and others that enter beside one that stays.
TEST_P(AnswersByLayers, HaveTheStatesOfAModelInMemoryToTheBit) {
  const auto resident = load(GetParam(), "tokens");
  const auto prompts = some_prompts(8);
  for (const auto compute : {at::kFloat, at::kBFloat16})
    for (const auto kv : {KvType::as_computed, KvType::int8})
      for (const auto* memory : {"1B", "1GiB"}) {
        const auto streamed = load(GetParam(), "layers", memory);
        const auto states = [&](const Model& model) {
          const at::NoGradGuard no_graph;
          GrowingForest forest(model, compute, kv);
          std::vector<Tensor> all{forest.enter({prompts[4], prompts[3], prompts[7]}, 6, 4)};
          all.push_back(forest.step(std::vector<int32_t>{0, 1, 2}, std::vector<int32_t>{9, 8, 7}));
          forest.leave(0);
          all.push_back(forest.enter({prompts[2], prompts[4]}, 6, 6, 1, 3));
          all.push_back(forest.step(std::vector<int32_t>{1, 2, 3, 4}, std::vector<int32_t>{5, 6, 7, 8}));
          all.push_back(forest.extend(4, std::vector<int32_t>{30, 31, 32, 33}, 3));
          return at::cat(all);
        };
        const auto want = states(*resident.model), found = states(*streamed.model);
        EXPECT_TRUE(at::equal(want, found)) << memory;
        std::vector<int32_t> rows(static_cast<size_t>(want.size(0)));
        for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
        Pass pass;
        pass.compute = compute;
        EXPECT_TRUE(at::equal(logits(want, rows, resident.model->head, pass),
                              logits(found, rows, streamed.model->head, pass)));
      }
}
INSTANTIATE_TEST_SUITE_P(Families, AnswersByLayers,
                         testing::Values("llama", "gemma3", "mixtral", "qwen3_moe", "qwen3_moe_dense",
                                         "deepseek_v3", "deepseek_v32", "deepseek_v32_sparse"));

// The prompts of all threads, then each token of all texts: one reading each.
TEST(ReadingsOfAnswers, AreOneForATokenOfAllTexts) {
  const auto resident = load("llama", "tokens");
  auto streamed = load("llama", "layers", "1GiB");
  const auto reads = count_reads(*streamed.model, *resident.model);
  const auto expect_reads = [&](int64_t times, const std::string& what) {
    const auto found = reads->take();
    EXPECT_EQ(found.size(), streamed.model->linears().size()) << what;
    for (const auto& [place, count] : found) EXPECT_EQ(count, times) << what << " layer " << place.layer;
  };
  const ByteTokenizer tokenizer(std::vector<std::string>{"</s>"});
  SampleSpec sample;
  sample.max_tokens = 5;
  for (const int64_t threads : {1, 2, 3}) {
    GenerateSpec how;
    how.threads = threads;
    how.prefill_rows = 4;  // several passes of each prompt
    const auto answers =
        generate({*streamed.model, tokenizer, at::kFloat, how}, some_prompts(9), {sample, {}});
    for (const auto& answer : answers) EXPECT_EQ(answer.tokens.size(), 5u);
    expect_reads(5, "answers");  // the last token of an answer is never read
  }
  GrowingForest forest(*streamed.model, at::kFloat);
  forest.enter(some_prompts(4), 3, 2);
  expect_reads(1, "prompts");
  forest.step(std::vector<int32_t>{0, 1, 2, 3}, std::vector<int32_t>{5, 6, 7, 8});
  expect_reads(1, "a step");
}

// Of a sparse layer only experts that somebody chose are read.
TEST(ReadingsOfAnswers, LeaveExpertsOutThatNobodyChose) {
  const auto resident = load("qwen3_moe", "tokens");
  auto streamed = load("qwen3_moe", "layers", "1GiB");
  const auto& config = streamed.model->config;
  ASSERT_GT(config.experts, config.experts_per_token);
  const auto reads = count_reads(*streamed.model, *resident.model);
  GrowingForest forest(*streamed.model, at::kFloat);
  forest.enter(some_prompts(3), 3);
  reads->take();
  forest.step(std::vector<int32_t>{1}, std::vector<int32_t>{5});
  std::map<int64_t, int64_t> experts;  // of each layer
  for (const auto& [place, count] : reads->take()) {
    if (place.expert < 0) {
      EXPECT_EQ(count, 1);
    } else if (place.role == Role::gate) ++experts[place.layer];
  }
  EXPECT_EQ(static_cast<int64_t>(experts.size()), config.layers);
  for (const auto& [layer, count] : experts) EXPECT_EQ(count, config.experts_per_token) << layer;
}

TEST(ReadingsOfAnswers, AreForetold) {
  const auto dense = load("llama", "layers", "1GiB"), sparse = load("qwen3_moe", "layers", "1GiB");
  const auto read = [](const LoadedModel& loaded) {
    return static_cast<double>(loaded.model->stream()->budget().read);
  };
  EXPECT_GT(read(dense), 0);
  EXPECT_EQ(bytes_of_step(*dense.model, 1), read(dense));
  EXPECT_EQ(bytes_of_step(*dense.model, 50), read(dense));
  // One token reads its own experts and what stands beside them, very many read all.
  double others = 0, of_experts = 0;
  for (const auto* linear : std::as_const(*sparse.model).linears()) {
    const auto count = static_cast<double>(linear->weight.rows * linear->weight.columns);
    (linear->place.expert >= 0 ? of_experts : others) += count;
  }
  const auto& config = sparse.model->config;
  const auto share = static_cast<double>(config.experts_per_token) / static_cast<double>(config.experts);
  EXPECT_NEAR(bytes_of_step(*sparse.model, 1),
              read(sparse) * (others + share * of_experts) / (others + of_experts), 1e-6 * read(sparse));
  EXPECT_NEAR(bytes_of_step(*sparse.model, 1000), read(sparse), 1e-6 * read(sparse));

  const ByteTokenizer tokenizer(std::vector<std::string>{"</s>"});
  GenerateSpec how;
  how.threads = 2, how.batch = 8;
  EXPECT_EQ(texts_together(how, 1), 1);
  EXPECT_EQ(texts_together(how, 12), 12);
  EXPECT_EQ(texts_together(how, 100), 16);
  const auto line = describe_step({*dense.model, tokenizer, at::kFloat, how}, 100, files_of("llama"));
  EXPECT_NE(line.find("MB of matrices are read for each token of up to 16 answers together: "),
            std::string::npos)
      << line;
  const auto resident = load("llama", "tokens");
  EXPECT_EQ(describe_step({*resident.model, tokenizer, at::kFloat, how}, 100, files_of("llama")), "");
}

}  // namespace
}  // namespace retort
