// Just enough of GGUF to take the vocabulary out of a file that the project fetched itself (formats/ has the
// real reader).
#pragma once
#include <cstring>

#include "base/files.h"
#include "text/tokenizer.h"

namespace retort {

inline GgufVocabulary read_gguf_vocabulary(const std::filesystem::path& path) {
  const MappedFile file(path);
  const char* at = file.text().data() + 8;
  const auto take = [&at]<class T>(T value) {
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
  };
  const auto text = [&] {
    const auto size = take(uint64_t{});
    at += size;
    return std::string(at - size, size);
  };
  constexpr int kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  GgufVocabulary vocabulary;
  static_cast<void>(take(int64_t{}));
  for (auto left = take(int64_t{}); left > 0; --left) {
    const std::string key = text();
    const auto id = [&](std::optional<int32_t>& field) { field = static_cast<int32_t>(take(uint32_t{})); };
    uint32_t type = take(uint32_t{});
    uint64_t count = 1;
    if (type == 9) {
      type = take(uint32_t{});
      count = take(uint64_t{});
    }
    if (key == "tokenizer.ggml.model") vocabulary.model = text();
    else if (key == "tokenizer.ggml.pre") vocabulary.pre = text();
    else if (key == "tokenizer.ggml.bos_token_id") id(vocabulary.bos);
    else if (key == "tokenizer.ggml.eos_token_id") id(vocabulary.eos);
    else if (key == "tokenizer.ggml.padding_token_id") id(vocabulary.pad);
    else if (key == "tokenizer.ggml.unknown_token_id") id(vocabulary.unknown);
    else if (key == "tokenizer.ggml.add_bos_token") vocabulary.add_bos = take(bool{});
    else if (key == "tokenizer.ggml.add_space_prefix") vocabulary.add_space_prefix = take(bool{});
    else if (key == "tokenizer.ggml.tokens")
      for (; count > 0; --count) vocabulary.tokens.push_back(text());
    else if (key == "tokenizer.ggml.merges")
      for (; count > 0; --count) vocabulary.merges.push_back(text());
    else if (key == "tokenizer.ggml.scores")
      for (; count > 0; --count) vocabulary.scores.push_back(take(float{}));
    else if (key == "tokenizer.ggml.token_type")
      for (; count > 0; --count) vocabulary.token_types.push_back(take(int32_t{}));
    else if (type == 8)
      for (; count > 0; --count) text();
    else at += count * static_cast<uint64_t>(kBytes[type]);
  }
  return vocabulary;
}

}  // namespace retort
