#include "text/added_tokens.h"

#include "text/unicode.h"

namespace retort {
namespace {

bool is(std::string_view text, size_t at, uint16_t classes) {
  return (character_table()[decode_utf8(text.data() + at).code_point] & classes) != 0 ||
         (classes == (kLetter | kMark | kNumber) && text[at] == '_');
}
size_t before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
  return at;
}
constexpr uint16_t kWordCharacter = kLetter | kMark | kNumber;  // the regular expressions' \w, with '_'

}  // namespace

size_t behind_white_space(std::string_view text, size_t from) {
  while (from < text.size() && is(text, from, kSpace)) from += utf8_length(text[from]);
  return from;
}

void AddedTokenFinder::add(const AddedToken& token) {
  if (token.text.empty()) return;
  uint32_t node = 0;
  for (const char c : token.text) {
    const auto [edge, fresh] = edges_.try_emplace(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c),
                                                  static_cast<uint32_t>(nodes_.size()));
    if (fresh) nodes_.push_back({});
    node = edge->second;
  }
  starts_[static_cast<uint8_t>(token.text[0])] = true;
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, size_t from, bool control) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!starts_[static_cast<uint8_t>(text[at])]) continue;
    int32_t found = -1;
    size_t stop = at;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto edge = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[i]));
      if (edge == edges_.end()) break;
      node = edge->second;
      if (nodes_[node].token >= 0) {
        found = nodes_[node].token;
        stop = i + 1;
      }
    }
    if (found < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    const bool touched = token.single_word && ((at > 0 && is(text, before(text, at), kWordCharacter)) ||
                                               (stop < text.size() && is(text, stop, kWordCharacter)));
    if ((token.control && !control) || touched) {
      at = stop - 1;
      continue;
    }
    size_t begin = at;
    if (token.strip_left)
      while (begin > from && is(text, before(text, begin), kSpace)) begin = before(text, begin);
    if (token.strip_right) stop = behind_white_space(text, stop);
    return {&token, begin, stop};
  }
  return {nullptr, text.size(), text.size()};
}

}  // namespace retort
