#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "text/gguf_metadata.h"
#include "text/golden.h"
#include "text/unicode.h"

namespace retort {
namespace {

const std::string kSmollm2 = source_path("checkpoints/smollm2-135m-instruct-q4_1.gguf");

const Tokenizer& smollm2() {
  static const auto tokenizer = tokenizer_from_gguf(read_gguf_vocabulary(kSmollm2), "smollm2.gguf");
  return *tokenizer;
}

class Smollm2 : public testing::Test {
  void SetUp() override {
    if (!std::filesystem::exists(kSmollm2)) GTEST_SKIP() << kSmollm2 << " is missing: tools/setup fetches it";
  }
};

TEST_F(Smollm2, IdsEqualTheReferenceOnAllHardStrings) { expect_golden_ids(smollm2(), golden("smollm2")); }

TEST_F(Smollm2, ContentNeverBecomesAControlToken) {
  const auto text = smollm2().encode("<|im_start|>", Specials::as_text),
             token = smollm2().encode("<|im_start|>", Specials::as_tokens);
  EXPECT_EQ(token, std::vector<int32_t>{1});
  EXPECT_GT(text.size(), 1u);
  EXPECT_EQ(smollm2().decode(text), "<|im_start|>");
  EXPECT_EQ(smollm2().decode(token), "<|im_start|>");
  EXPECT_EQ(smollm2().decode(token, true), "");
  EXPECT_EQ(smollm2().token_bytes(1), "");
  EXPECT_TRUE(smollm2().is_special(1));
  EXPECT_FALSE(smollm2().is_special(text[0]));
}

TEST_F(Smollm2, DecodingGivesTheBytesBack) {
  int valid = 0;
  for (const std::string& text : hard_strings()) {
    const auto ids = smollm2().encode(text);
    std::string joined;
    for (const int32_t id : ids) joined += smollm2().token_bytes(id);
    EXPECT_EQ(smollm2().decode(ids), joined);
    // SmolLM2's vocabulary lacks some control bytes (0x1D, ...): the reference loses them too.
    if (!valid_utf8(text) || std::ranges::any_of(text, [](char c) {
          return (c >= 0 && c < ' ' && c != '\n' && c != '\t' && c != '\r') || c == 0x7F;
        }))
      continue;
    ++valid;
    EXPECT_EQ(joined, text);
  }
  EXPECT_GT(valid, 500);
  EXPECT_EQ(smollm2().decode(smollm2().encode("naïve — 中文 😀\r\n\tx  y")), "naïve — 中文 😀\r\n\tx  y");
}

TEST_F(Smollm2, BytesThatAreNotUtf8BecomeOneReplacementAMaximalSubpart) {
  EXPECT_EQ(smollm2().encode("a\xE2\x82x"), smollm2().encode("a\uFFFDx"));
  EXPECT_EQ(smollm2().encode("\xED\xA0\x80"), smollm2().encode("\uFFFD\uFFFD\uFFFD"));
}

TEST_F(Smollm2, GgufMetadataSurvivesTheRoundTrip) {
  const GgufVocabulary read = read_gguf_vocabulary(kSmollm2), written = gguf_vocabulary(smollm2());
  EXPECT_EQ(written.model, read.model);
  EXPECT_EQ(written.pre, read.pre);
  EXPECT_EQ(written.tokens, read.tokens);
  EXPECT_EQ(written.token_types, read.token_types);
  EXPECT_EQ(written.merges, read.merges);
  EXPECT_EQ(written.scores, read.scores);
  EXPECT_EQ(written.bos, read.bos);
  EXPECT_EQ(written.eos, read.eos);
  EXPECT_EQ(written.pad, read.pad);
  EXPECT_EQ(written.unknown, read.unknown);
  EXPECT_EQ(written.add_bos, read.add_bos);
  EXPECT_EQ(tokenizer_from_gguf(written, "again")->hash(), smollm2().hash());
}

TEST_F(Smollm2, FindsTokensByTheirSpelling) {
  EXPECT_EQ(smollm2().size(), 49152);
  EXPECT_EQ(smollm2().find("<|im_end|>"), 2);
  EXPECT_EQ(smollm2().token_text(2), "<|im_end|>");
  EXPECT_EQ(smollm2().find("no such token"), std::nullopt);
  EXPECT_EQ(smollm2().bos, 1);
  EXPECT_EQ(smollm2().eos, 2);
  EXPECT_FALSE(smollm2().add_bos);
  const auto the = smollm2().find("Ġthe");
  ASSERT_TRUE(the.has_value());
  EXPECT_EQ(smollm2().token_bytes(*the), " the");
  EXPECT_THROW(smollm2().token_bytes(49152), std::out_of_range);
  EXPECT_THROW(smollm2().decode(std::vector<int32_t>{-1}), std::out_of_range);
}

}  // namespace
}  // namespace retort
