// What a model folder says beside its vocabulary: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace retort {

// A special token's spelling, which is written as text or as an object; empty where there is none.
std::string special_text(const Json& config, const char* key);

struct FolderSettings {
  std::vector<AddedToken> added;  // by id, each once
  std::string bos, eos, pad;      // spellings; empty: nothing is said
  std::optional<bool> add_bos, add_eos;
};

// Of a folder whose vocabulary is a tokenizer.model, which knows nothing of what was added to it later:
// tokens of added_tokens.json, and what added_tokens_decoder in tokenizer_config.json says of them.
// FormatError names file and token.
FolderSettings read_folder_settings(const std::filesystem::path& folder);

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view model_bytes, std::string_view file,
                                                        const FolderSettings& settings);

// Moonshot's tiktoken.model, whose folder says the rest; FormatError where its code is another's.
std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, std::string_view file,
                                                   const std::filesystem::path& folder);

}  // namespace retort
