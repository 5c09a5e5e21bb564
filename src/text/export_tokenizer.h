// A tokenizer as the files that transformers opens (tokenizer.h has gguf_vocabulary, its counterpart for
// GGUF).
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace retort {

// The text of tokenizer.json. RecipeError for models that only libsentencepiece runs: their tokenizer.model
// is to be copied.
std::string tokenizer_json(const Tokenizer& tokenizer);

// What tokenizer_config.json says besides: the Jinja text, others by name, and the token that ends an answer
// where it is not the tokenizer's EOS.
struct ChatFields {
  std::string_view chat_template = "";
  std::vector<std::pair<std::string, std::string>> other_templates = {};
  std::optional<int32_t> eos = {};
};

// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json, each atomically.
void write_tokenizer_folder(const Tokenizer& tokenizer, const std::filesystem::path& folder,
                            const ChatFields& chat = {});

// Whether a space is put before a text only where it begins the whole one (Metaspace, "first"), for which
// GGUF has no word: it says "before every text between control tokens" or "never".
bool puts_space_first_only(const Tokenizer& tokenizer);

}  // namespace retort
