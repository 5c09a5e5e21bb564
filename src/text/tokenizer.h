// Text <-> token ids. One interface over SentencePiece models, byte-level BPE (tokenizer.json, GGUF metadata,
// tekken).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Whether text that looks like a special token ("<|im_end|>") becomes that token. User content is always
// `as_text`.
enum class Specials { as_text, as_tokens };

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Ids of `text`; adds no BOS and no EOS. Invalid UTF-8 is legal input (byte fallback or U+FFFD, as the
  // reference does).
  virtual std::vector<int32_t> encode(std::string_view text, Specials specials = Specials::as_text) const = 0;
  // The bytes of `ids` joined; `skip_special` leaves control tokens out. Ids out of range throw
  // std::out_of_range.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special = false) const = 0;
  // The bytes that one token stands for (for stop strings, byte alignment and streaming); empty for control
  // tokens.
  virtual std::string token_bytes(int32_t id) const = 0;
  // The token's spelling in the vocabulary ("Ġthe", "▁the", "<|im_end|>").
  virtual std::string token_text(int32_t id) const = 0;
  virtual std::optional<int32_t> find(std::string_view token_text) const = 0;  // exact spelling
  virtual bool is_special(int32_t id) const = 0;
  virtual int64_t size() const = 0;
  // Ids below size() that no token has, in order: gaps in the ids of a file, rows that were padded.
  virtual const std::vector<int32_t>& holes() const;

  // Rows of the model's embedding, which may have fewer than there are tokens (Gemma 3's text models lack
  // that of <image_soft_token>). encode() refuses a text that uses a token without one.
  int64_t rows = INT64_MAX;
  int64_t usable_ids() const { return size() < rows ? size() : rows; }
  void require_rows(std::span<const int32_t> ids) const;  // RecipeError naming the first that has none

  std::optional<int32_t> bos, eos, pad, unknown;
  bool add_bos = false;  // whether the model's own convention puts BOS first
  // sha256 over (kind, every token's spelling, merges or scores, specials): two tokenizers with one hash give
  // one result.
  virtual std::string hash() const = 0;
};

// What GGUF metadata says of a tokenizer (formats/ reads it, text/ understands it; the same struct is written
// on export).
struct GgufVocabulary {
  std::string model;  // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE)
  std::string pre;    // tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", "tekken", ...
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;   // "Ġ t"
  std::vector<float> scores;
  std::optional<int32_t> bos, eos, pad, unknown;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufVocabulary& vocabulary, std::string_view file);
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view tokenizer_json,
                                               std::string_view tokenizer_config_json, std::string_view file);
std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view model_bytes, std::string_view file);
std::unique_ptr<Tokenizer> tokenizer_from_tekken(std::string_view tekken_json, std::string_view file);
// Looks in a model folder: tokenizer.json, tokenizer.model, tekken.json, tiktoken.model, in this order.
// FormatError when there is none.
std::unique_ptr<Tokenizer> tokenizer_from_folder(const std::string& folder);

// For export: any byte-pair tokenizer as GGUF metadata. RecipeError when GGUF has no words for it (a
// pre-tokenizer that llama.cpp does not name, merges that scores cannot express, a unigram model). With
// `rows` the list is made as long as the embedding, as llama.cpp demands: ids without a token are "[PAD260]",
// of the type unused; tokens without a row are left out.
GgufVocabulary gguf_vocabulary(const Tokenizer& tokenizer, int64_t rows = 0);

}  // namespace retort
