// A tokenizer for tests.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace retort {

// One token a byte, and a table of special tokens: enough to see where control ids and answers fall.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(std::vector<std::string> specials) : specials_(std::move(specials)) {}
  std::vector<int32_t> encode(std::string_view text, Specials) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const auto id : ids) text += token_text(id);
    return text;
  }
  std::string token_bytes(int32_t id) const override {
    return id < 256 ? std::string(1, static_cast<char>(id)) : "";
  }
  std::string token_text(int32_t id) const override {
    return id < 256 ? std::string(1, static_cast<char>(id)) : specials_.at(static_cast<size_t>(id) - 256);
  }
  std::optional<int32_t> find(std::string_view text) const override {
    for (size_t i = 0; i < specials_.size(); ++i)
      if (specials_[i] == text) return static_cast<int32_t>(256 + i);
    return std::nullopt;
  }
  bool is_special(int32_t id) const override { return id >= 256; }
  int64_t size() const override { return 256 + static_cast<int64_t>(specials_.size()); }
  std::string hash() const override { return "bytes"; }

 private:
  std::vector<std::string> specials_;
};

inline ByteTokenizer chat_tokenizer() {
  ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>", "<s>"});
  tokenizer.eos = 257;
  tokenizer.bos = 258;
  return tokenizer;
}

}  // namespace retort
