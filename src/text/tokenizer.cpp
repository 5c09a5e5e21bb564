#include "text/tokenizer.h"

#include "base/error.h"
#include "base/files.h"
#include "text/folder_settings.h"

namespace retort {

const std::vector<int32_t>& Tokenizer::holes() const {
  static const std::vector<int32_t> none;
  return none;
}

void Tokenizer::require_rows(std::span<const int32_t> ids) const {
  if (size() <= rows) return;
  for (const auto id : ids)
    if (id >= rows)
      throw RecipeError(fmt::format(
          "a text uses the token '{}' (id {}), for which the model's embedding of {} rows has none; "
          "take it out of the text",
          printable(token_text(id)), id, rows));
}

std::unique_ptr<Tokenizer> tokenizer_from_folder(const std::string& folder) {
  const std::filesystem::path root(folder);
  const auto config = root / "tokenizer_config.json";
  if (const auto path = root / "tokenizer.json"; std::filesystem::exists(path)) {
    const MappedFile file(path);
    return tokenizer_from_json(file.text(), std::filesystem::exists(config) ? read_text(config) : "",
                               file.name());
  }
  for (const char* name : {"tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v1"}) {
    if (!std::filesystem::exists(root / name)) continue;
    const MappedFile file(root / name);
    return tokenizer_from_sentencepiece(file.text(), file.name(), read_folder_settings(root));
  }
  if (const auto path = root / "tekken.json"; std::filesystem::exists(path)) {
    const MappedFile file(path);
    return tokenizer_from_tekken(file.text(), file.name());
  }
  if (const auto path = root / "tiktoken.model"; std::filesystem::exists(path)) {
    const MappedFile file(path);
    return tokenizer_from_tiktoken(file.text(), file.name(), root);
  }
  throw FormatError(fmt::format(
      "{}: no tokenizer found; expected tokenizer.json, tokenizer.model, tekken.json or tiktoken.model",
      folder));
}

}  // namespace retort
