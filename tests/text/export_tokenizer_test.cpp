#include "text/export_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/gguf_metadata.h"
#include "text/golden.h"
#include "text/unicode.h"
#include "where.h"  // tests

namespace retort {
namespace {

// One tokenizer of every kind; the published files only where they have been fetched.
std::unique_ptr<Tokenizer> family(const std::string& name) {
  const std::string mistral = source_path("third_party/inputs/mistral/mistral_common/data/"),
                    smollm2 = source_path("checkpoints/smollm2-135m-instruct-q4_1.gguf");
  const auto from = [&](const std::string& file) {
    return std::filesystem::exists(mistral + file) ? read_text(mistral + file) : std::string();
  };
  if (name == "smollm2")
    return std::filesystem::exists(smollm2) ? tokenizer_from_gguf(read_gguf_vocabulary(smollm2), name)
                                            : nullptr;
  if (name == "tekken" || name == "mistral-v1" || name == "mistral-v3") {
    const std::string bytes = from(name == "tekken"       ? "tekken_240718.json"
                                   : name == "mistral-v1" ? "tokenizer.model.v1"
                                                          : "mistral_instruct_tokenizer_240323.model.v3");
    if (bytes.empty()) return nullptr;
    return name == "tekken" ? tokenizer_from_tekken(bytes, name) : tokenizer_from_sentencepiece(bytes, name);
  }
  return tokenizer_from_json(golden(name).at("tokenizer_json").get<std::string>(), "", name);
}

// The exported tokenizer encodes all hard strings that are UTF-8 as the original does.
void expect_same_ids(const Tokenizer& original, const Tokenizer& exported) {
  ASSERT_EQ(original.size(), exported.size());
  for (const std::string& text : hard_strings()) {
    if (!valid_utf8(text)) continue;
    for (const Specials specials : {Specials::as_text, Specials::as_tokens})
      ASSERT_EQ(original.encode(text, specials), exported.encode(text, specials))
          << Json(text).dump(-1, ' ', true) << (specials == Specials::as_text ? " as text" : " as tokens");
    ASSERT_EQ(original.decode(original.encode(text)), exported.decode(original.encode(text)));
  }
}

class Export : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    tokenizer_ = family(GetParam());
    if (tokenizer_ == nullptr) GTEST_SKIP() << GetParam() << "'s file is missing: tools/setup fetches it";
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

// The folders stay below the build tree: tools/peers/tokenizer_folders.py opens them with transformers.
TEST_P(Export, AFolderGivesTheSameIds) {
  const std::string folder = std::string(binary_dir()) + "/tokenizers/" + GetParam();
  write_tokenizer_folder(*tokenizer_, folder, {.chat_template = "{{ messages }}"});
  const auto again = tokenizer_from_folder(folder);
  expect_same_ids(*tokenizer_, *again);
  EXPECT_EQ(again->bos, tokenizer_->bos);
  EXPECT_EQ(again->eos, tokenizer_->eos);
  EXPECT_EQ(again->pad, tokenizer_->pad);
  EXPECT_EQ(again->add_bos, tokenizer_->add_bos);
  EXPECT_EQ(read_json(folder + "/tokenizer_config.json").at("chat_template"), "{{ messages }}");
}
TEST_P(Export, GgufMetadataGivesTheSameIds) {
  const GgufVocabulary vocabulary = gguf_vocabulary(*tokenizer_);
  const auto again = tokenizer_from_gguf(vocabulary, GetParam());
  // GGUF has no words for a token that swallows white space, nor for a prefix at the very start only.
  if (std::string_view(GetParam()) != "phi3" && std::string_view(GetParam()) != "metaspace")
    expect_same_ids(*tokenizer_, *again);
  const GgufVocabulary second = gguf_vocabulary(*again);
  EXPECT_EQ(second.tokens, vocabulary.tokens);
  EXPECT_EQ(second.token_types, vocabulary.token_types);
  EXPECT_EQ(second.merges, vocabulary.merges);
  EXPECT_EQ(second.scores, vocabulary.scores);
}
INSTANTIATE_TEST_SUITE_P(Families, Export,
                         testing::Values("smollm2", "mistral-v1", "mistral-v3", "tekken", "gpt2", "llama3",
                                         "dbrx", "qwen2", "qwen35", "seed", "o200k", "tekken-json",
                                         "deepseek-llm", "kimi-json", "deepseek-v3", "llama2", "phi3",
                                         "metaspace", "gemma"));

TEST(ExportTokenizer, TypesFollowTheAddedTokens) {
  const auto tokenizer = family("qwen2");
  const GgufVocabulary vocabulary = gguf_vocabulary(*tokenizer);
  const auto type = [&](const char* text) {
    return vocabulary.token_types.at(static_cast<size_t>(tokenizer->find(text).value()));
  };
  EXPECT_EQ(vocabulary.pre, "qwen2");
  EXPECT_EQ(type("<|im_start|>"), 3);  // control
  EXPECT_EQ(type("<think>"), 4);       // user defined
  EXPECT_EQ(type("a"), 1);
  const auto gemma = family("gemma");
  const GgufVocabulary marked = gguf_vocabulary(*gemma);
  EXPECT_EQ(marked.model, "llama");
  EXPECT_EQ(marked.token_types.at(static_cast<size_t>(gemma->find("<0x0A>").value())), 6);  // byte
  EXPECT_EQ(marked.token_types.at(static_cast<size_t>(gemma->find("<unk>").value())), 2);   // unknown
}

// As llama.cpp's converter writes Gemma's runs of spaces: user-defined, spelled with plain spaces.
TEST(ExportTokenizer, TokensOfPlainSpacesOfAGgufFileGoIntoAFolder) {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581a", "  ", "   "};
  vocabulary.token_types = {2, 3, 3, 1, 1, 1, 1, 1, 4, 4};
  vocabulary.scores = {0, 0, 0, -9, -10, -11, -1, -2, -1000, -1000};
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    vocabulary.token_types.push_back(6), vocabulary.scores.push_back(0);
  }
  vocabulary.add_space_prefix = false;
  const auto original = tokenizer_from_gguf(vocabulary, "gemma3");
  EXPECT_EQ(original->encode("ab  a   b a"), (std::vector<int32_t>{6, 8, 4, 9, 5, 7}));
  const std::string folder = testing::TempDir() + "retort-gemma-spaces";
  write_tokenizer_folder(*original, folder, {});
  const auto again = tokenizer_from_folder(folder);
  for (const char* text : {"ab  a   b a", "   ", "a    b", " a  ", "ab\n  b", "\u2581\u2581a"})
    EXPECT_EQ(again->encode(text), original->encode(text)) << text;
  EXPECT_EQ(gguf_vocabulary(*again).tokens, vocabulary.tokens);
  EXPECT_EQ(gguf_vocabulary(*original).token_types, vocabulary.token_types);
}

}  // namespace
}  // namespace retort
