// Ids of every family against its reference, on the same hard strings.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
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
                                         "tekken-json", "deepseek-v3", "deepseek-llm", "kimi-json", "llama2",
                                         "phi3", "metaspace", "gemma"));

// Moonshot's tiktoken.model: ids of tiktoken, and the same of the tokenizer.json that is written for it.
class KimiFolder : public testing::Test {
 protected:
  KimiFolder() : stored(golden("kimi")) {
    std::filesystem::create_directories(folder);
    write_text(folder / "tiktoken.model", stored.at("tiktoken_model").get<std::string>());
    write_config(stored.at("tokenizer_config"));
  }
  ~KimiFolder() override { std::filesystem::remove_all(folder); }
  void write_config(const Json& config) { write_text(folder / "tokenizer_config.json", config.dump()); }
  std::string problem() {
    try {
      tokenizer_from_folder(folder.string());
    } catch (const FormatError& error) { return error.what(); }
    return "accepted";
  }
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("retort-kimi-" + std::to_string(::getpid()));
  const Json stored;
};

TEST_F(KimiFolder, IdsEqualTiktokensOnAllHardStrings) {
  const auto tokenizer = tokenizer_from_folder(folder.string());
  expect_golden_ids(*tokenizer, stored);
  const auto written = tokenizer_from_json(tokenizer_json(*tokenizer), "", "written");
  expect_golden_ids(*written, stored);
  expect_golden_ids(*tokenizer_from_gguf(gguf_vocabulary(*tokenizer), "file"), stored);
  EXPECT_EQ(gguf_vocabulary(*tokenizer).pre, "kimi-k2");
  const auto end = tokenizer->find("[EOS]");
  EXPECT_EQ(tokenizer->eos, end);
  EXPECT_EQ(tokenizer->find("[BOS]"), tokenizer->bos);
  EXPECT_TRUE(tokenizer->is_special(*end));
  const auto reserved = tokenizer->find("<|reserved_token_" + std::to_string(*end + 3) + "|>");
  EXPECT_EQ(reserved, *end + 3);
  EXPECT_EQ(tokenizer->size(), *tokenizer->bos + 256);
}

TEST_F(KimiFolder, CodeOfOthersIsRefusedByName) {
  auto config = stored.at("tokenizer_config");
  config["auto_map"]["AutoTokenizer"] = Json::array({"tokenization_other.TikTokenTokenizer", nullptr});
  write_config(config);
  EXPECT_NE(
      problem().find("is read by the code 'tokenization_other.TikTokenTokenizer', whose pattern is not"),
      std::string::npos)
      << problem();
  config = stored.at("tokenizer_config");
  config["added_tokens_decoder"]["3"] = {{"content", "<odd>"}, {"special", true}};
  write_config(config);
  EXPECT_NE(problem().find("'<odd>' has the id 3, which is none of the control tokens'"), std::string::npos);
  write_text(folder / "tiktoken.model", "aGVsbG8= 1\n");
  EXPECT_NE(problem().find("line 1: does not end with its place as the rank"), std::string::npos);
  write_text(folder / "tiktoken.model", "aGVsbG8 0\n");
  EXPECT_NE(problem().find("line 1: does not begin with the base64 of a token"), std::string::npos);
  std::filesystem::remove(folder / "tokenizer_config.json");
  EXPECT_NE(problem().find("stands without tokenizer_config.json"), std::string::npos);
}

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
                                         {"deepseek-llm", "deepseek-llm"},
                                         {"kimi-k2", "kimi-json"},
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
