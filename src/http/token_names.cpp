#include "http/token_names.h"

#include <charconv>

#include "base/error.h"
#include "data/readers.h"

namespace retort {
namespace {

constexpr std::string_view kById = "token_id:", kByBytes = "bytes:";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool whole_characters(std::string_view text) {
  try {
    require_text(text, "", "");
    return true;
  } catch (const FormatError&) { return false; }
}

// Without what is not a whole character, as Python's errors="ignore" leaves it.
std::string whole_part(std::string_view text) {
  std::string whole;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    while (length <= 4 && i + length <= text.size() && !whole_characters(text.substr(i, length))) ++length;
    if (length <= 4 && i + length <= text.size()) whole += text.substr(i, length);
    else length = 1;
    i += length;
  }
  return whole;
}

std::optional<int32_t> number_in(std::string_view text) {
  int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// "\xe2\x96" and plain characters.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text.substr(i, 2) == "\\x" && i + 4 <= text.size() &&
        std::from_chars(text.data() + i + 2, text.data() + i + 4, byte, 16).ptr == text.data() + i + 4) {
      out += static_cast<char>(byte);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// As clean_up_tokenization_spaces of transformers 4 leaves it, which servers decode single tokens with: the "
// ." of Llama 3 is spelled ".".
std::string tidied(std::string text) {
  for (const std::string_view mark : {" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"}) {
    const auto kept = mark == " ' " ? std::string_view("'") : mark.substr(1);
    for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += kept.size())
      text.replace(at, mark.size(), kept);
  }
  return text;
}

std::string_view without_spaces_before(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

}  // namespace

TokenNames::TokenNames(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      ambiguous_(tokenizer.find("\u2581the").has_value() || tokenizer.find("\u2581a").has_value()) {
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const auto text = text_of(id);
    if (text.empty()) continue;
    const auto [entry, fresh] = by_text_.try_emplace(text, id);
    if (!fresh) entry->second = -1;
  }
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const auto text = text_of(id);
    if (!whole_characters(text)) by_text_[whole_part(text)] = -1;  // " \xe2" is spelled " ", too
  }
}

std::string TokenNames::text_of(int32_t id) const {
  auto bytes = tokenizer_.token_bytes(id);
  return bytes.empty() ? tokenizer_.token_text(id) : bytes;
}

std::optional<int32_t> TokenNames::find(std::string_view name) const {
  if (name.starts_with(kById)) {
    const auto id = number_in(name.substr(kById.size()));
    return id && *id < tokenizer_.size() ? id : std::nullopt;
  }
  if (ambiguous_) return std::nullopt;
  auto found = by_text_.find(std::string(name));
  if (found == by_text_.end() && name.starts_with(kByBytes))
    found = by_text_.find(unescaped(name.substr(kByBytes.size())));
  return found == by_text_.end() || found->second < 0 ? std::nullopt : std::optional(found->second);
}

bool TokenNames::may_be(std::string_view name, int32_t id) const {
  if (name.starts_with(kById)) return number_in(name.substr(kById.size())) == id;
  const auto text = text_of(id);
  if (name == text || name == tokenizer_.token_text(id)) return true;
  if (name.starts_with(kByBytes)) return unescaped(name.substr(kByBytes.size())) == text;
  if (!whole_characters(text) || text.ends_with(kReplacement))
    return name.empty() || name == whole_part(text) || name.find(kReplacement) != std::string_view::npos ||
           name.ends_with(text);
  if (tokenizer_.is_special(id) && name.empty()) return true;  // servers may hide control tokens
  if (name == tidied(text)) return true;
  return ambiguous_ && without_spaces_before(name) == without_spaces_before(text);
}

}  // namespace retort
