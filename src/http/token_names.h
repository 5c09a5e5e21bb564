// How servers spell tokens, and which of the student's tokens that is.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "text/tokenizer.h"

namespace retort {

class TokenNames {
 public:
  explicit TokenNames(const Tokenizer& tokenizer);
  // The one token that `name` can be: "token_id:17" (vLLM), "bytes:\xe2\x96" (OpenAI), or the text of a
  // single token of the vocabulary (and of no other once the halves of characters are dropped, as servers
  // do).
  std::optional<int32_t> find(std::string_view name) const;
  // Whether `name` may be how a server spells token `id`. Texts that are not whole characters are spelled in
  // many ways: dropped in part or whole, U+FFFD, or (vLLM) as the character that they complete in their
  // context, "\xa5" as "\u65e5".
  bool may_be(std::string_view name, int32_t id) const;
  // SentencePiece: servers give "▁the" and "the" the same text, so that only ids tell them apart.
  bool texts_are_ambiguous() const { return ambiguous_; }
  bool knows(int32_t id) const { return id >= 0 && id < tokenizer_.size(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  std::string text_of(int32_t id) const;  // its bytes; a control token's spelling

 private:
  const Tokenizer& tokenizer_;
  std::unordered_map<std::string, int32_t> by_text_;  // -1: several tokens
  bool ambiguous_ = false;
};

}  // namespace retort
