// Ids of every family against its reference, on the same hard strings.
#include <gtest/gtest.h>

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
                         testing::Values("gpt2", "llama3", "qwen2", "qwen35", "o200k", "tekken-json",
                                         "deepseek-v3", "llama2", "phi3", "metaspace", "gemma"));

TEST(SentencePieceLibrary, RunsUnigramModelsWithNormalizationRules) {
  const Json stored = golden("unigram");
  const auto tokenizer =
      tokenizer_from_sentencepiece(from_base64(stored.at("model").get<std::string>()), "unigram.model");
  expect_golden_ids(*tokenizer, stored);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("The quick brown fox")), "The quick brown fox");
}

}  // namespace
}  // namespace retort
