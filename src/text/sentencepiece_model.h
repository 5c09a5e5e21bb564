// A bounded reading of SentencePiece's ModelProto (sentencepiece_model.proto), before any of it reaches the
// library.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"

namespace retort {

struct SentencePieceModel {
  enum class Kind { unigram = 1, bpe = 2, word = 3, character = 4 };
  Kind kind = Kind::unigram;
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<TokenType> types;  // the proto's numbers are GGUF's
  bool byte_fallback = false, whitespace_as_suffix = false;
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
  std::string normalization;  // its name: "identity", "nmt_nfkc"
  std::string_view charsmap;  // its compiled rules, checked; empty for identity
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// FormatError when a field is cut, a piece empty, over-long, repeated or not UTF-8, a score not finite, a
// byte piece missing, or a target of the normalizer's trie outside of it.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, std::string_view file);

}  // namespace retort
