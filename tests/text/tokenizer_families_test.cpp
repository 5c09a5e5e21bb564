// Ids of every family against its reference, on the same hard strings.
#include <gtest/gtest.h>

#include "text/export_tokenizer.h"
#include "text/golden.h"
#include "text/tokenizer.h"

namespace retort {
namespace {

const std::string kMistral = source_path("third_party/inputs/mistral/mistral_common/data/");

std::string from_base64(const std::string& text) {
  std::string result;
  uint32_t bits = 0;
  int count = 0;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (const char c : text) {
    const size_t value = kDigits.find(c);
    if (value == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) result.push_back(static_cast<char>(bits >> (count -= 8) & 0xFF));
  }
  return result;
}

class PublishedFile : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(PublishedFile, IdsEqualTheReferenceOnAllHardStrings) {
  const auto [family, name] = GetParam();
  if (!std::filesystem::exists(kMistral + name))
    GTEST_SKIP() << kMistral + name << " is missing: tools/setup fetches it";
  const MappedFile file(kMistral + name);
  const auto tokenizer = std::string_view(name).ends_with(".json")
                             ? tokenizer_from_tekken(file.text(), name)
                             : tokenizer_from_sentencepiece(file.text(), name);
  expect_golden_ids(*tokenizer, golden(family));
}
INSTANTIATE_TEST_SUITE_P(Mistral, PublishedFile,
                         testing::Values(std::pair{"mistral-v1", "tokenizer.model.v1"},
                                         std::pair{"mistral-v3",
                                                   "mistral_instruct_tokenizer_240323.model.v3"},
                                         std::pair{"tekken", "tekken_240718.json"}));

class TokenizerJson : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerJson, IdsEqualTheReferenceOnAllHardStrings) {
  const Json stored = golden(GetParam());
  const auto tokenizer = tokenizer_from_json(stored.at("tokenizer_json").get<std::string>(), "", GetParam());
  expect_golden_ids(*tokenizer, stored);
}
INSTANTIATE_TEST_SUITE_P(Families, TokenizerJson,
                         testing::Values("gpt2", "llama3", "dbrx", "qwen2", "qwen35", "seed", "o200k",
                                         "tekken-json", "deepseek-v3", "llama2", "phi3", "metaspace",
                                         "gemma"));

// Names of GGUF that stand for a pre-tokenizer with another name, or for the one whose vocabulary stands
// here. tools/golden/tokenizer_ids.py asks llama.cpp for the ids of the same vocabulary under each name.
TEST(GgufNames, OfAPreTokenizerGiveItsIdsAndAreWrittenBack) {
  for (const auto& [name, vocabulary] : {std::pair{"lfm2", "llama3"},
                                         {"glm4", "llama3"},
                                         {"llama-bpe", "llama3"},
                                         {"dbrx", "dbrx"},
                                         {"smaug-bpe", "dbrx"},
                                         {"llama4", "o200k"},
                                         {"gpt-4o", "o200k"},
                                         {"hunyuan-dense", "deepseek-v3"},
                                         {"joyai-llm", "deepseek-v3"},
                                         {"seed-coder", "seed"}}) {
    SCOPED_TRACE(name);
    const Json stored = golden(vocabulary);
    auto metadata =
        gguf_vocabulary(*tokenizer_from_json(stored.at("tokenizer_json").get<std::string>(), "", vocabulary));
    metadata.pre = name;
    const auto tokenizer = tokenizer_from_gguf(metadata, name);
    expect_golden_ids(*tokenizer, stored);
    EXPECT_EQ(gguf_vocabulary(*tokenizer).pre, name);
  }
}

TEST(GgufNames, SayWhetherATextBeginsWithBosWhereTheFileDoesNot) {
  auto metadata =
      gguf_vocabulary(*tokenizer_from_json(golden("llama3").at("tokenizer_json").get<std::string>(), "", ""));
  metadata.bos = 0, metadata.add_bos = std::nullopt;
  for (const auto& [name, begins] : {std::pair{"llama-bpe", true}, {"lfm2", true}, {"glm4", false}}) {
    metadata.pre = name;
    EXPECT_EQ(tokenizer_from_gguf(metadata, name)->add_bos, begins) << name;
  }
  metadata.pre = "llama-bpe", metadata.add_bos = false;
  EXPECT_FALSE(tokenizer_from_gguf(metadata, "")->add_bos);
}

TEST(SentencePieceLibrary, RunsUnigramModelsWithNormalizationRules) {
  const Json stored = golden("unigram");
  const auto tokenizer =
      tokenizer_from_sentencepiece(from_base64(stored.at("model").get<std::string>()), "unigram.model");
  expect_golden_ids(*tokenizer, stored);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("The quick brown fox")), "The quick brown fox");
}

}  // namespace
}  // namespace retort
