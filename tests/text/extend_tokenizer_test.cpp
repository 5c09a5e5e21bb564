// Tokens behind a tokenizer's last, of every kind of byte-pair tokenizer, as each file says them.
#include "text/extend_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/export_tokenizer.h"
#include "text/golden.h"
#include "text/made_model.h"

namespace retort {
namespace {

const std::vector<NewToken> kTokens = {{"<|law|>", true}, {"stat word", false}};

std::string refusal(const Tokenizer& tokenizer, const std::vector<NewToken>& tokens) {
  try {
    extended_tokenizer(tokenizer, tokens);
  } catch (const RecipeError& error) { return error.what(); }
  return "accepted";
}

TEST(ExtendedTokenizer, FindsTheNewTokensAndLeavesTheOldOnesAlone) {
  for (const char* name : {"llama2", "llama3", "qwen2", "gemma"}) {
    SCOPED_TRACE(name);
    const auto old = tokenizer_from_json(golden(name).at("tokenizer_json").get<std::string>(), "", name);
    const auto more = extended_tokenizer(*old, kTokens);
    const auto id = static_cast<int32_t>(first_new_id(*old));
    EXPECT_EQ(more->size(), id + 2);
    for (const std::string& text : hard_strings())
      ASSERT_EQ(old->encode(text, Specials::as_tokens), more->encode(text, Specials::as_tokens));
    const auto ids = more->encode("a<|law|>b stat word", Specials::as_tokens);
    EXPECT_EQ(std::ranges::count(ids, id), 1);
    EXPECT_EQ(std::ranges::count(ids, id + 1), 1);
    EXPECT_NE(more->hash(), old->hash());
    const auto json = tokenizer_from_json(tokenizer_json(*more), "", name);
    EXPECT_EQ(json->encode("a<|law|>b stat word", Specials::as_tokens), ids);
    const auto gguf = tokenizer_from_gguf(gguf_vocabulary(*more, id + 9), name);
    EXPECT_EQ(gguf->encode("a<|law|>b stat word", Specials::as_tokens), ids);
    EXPECT_EQ(first_new_id(*gguf), id + 2);  // the names of padding are no tokens
  }
}

TEST(ExtendedTokenizer, AWordThatEveryTextHasIsRefusedByItsOwnKey) {
  const auto old = tokenizer_from_json(golden("qwen2").at("tokenizer_json").get<std::string>(), "", "qwen2");
  EXPECT_EQ(refusal(*old, {{"<|law|>", true}, {" ", false}}),
            "model.add_words: ' ' is white space, which would be cut out of every text; expected a word or a "
            "mark");
  EXPECT_EQ(refusal(*old, {{"", true}}), "model.add_tokens: '' is empty; expected a token's text");
}

TEST(ExtendedTokenizer, AUnigramModelIsRefused) {
  MadeModel made;
  made.kind = 1;
  EXPECT_NE(refusal(*tokenizer_from_sentencepiece(made.bytes(), "made"), kTokens)
                .find("model.add_tokens: this SentencePiece model (unigram"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
