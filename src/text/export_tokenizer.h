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

// Writes tokenizer.json, tokenizer_config.json (with `chat_template`, Jinja source, if it is not empty) and
// special_tokens_map.json, each atomically.
void write_tokenizer_folder(const Tokenizer& tokenizer, const std::filesystem::path& folder,
                            std::string_view chat_template = "");

}  // namespace retort
