// Upper and lower case of ASCII's letters, whatever else a text holds. Words of other alphabets:
// text/text_match.h.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>

namespace retort {

constexpr char lower_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

inline std::string lower_case(std::string_view text) {
  std::string made(text);
  for (auto& c : made) c = lower_case(c);
  return made;
}

inline bool equal_letters(std::string_view one, std::string_view other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](char a, char b) { return lower_case(a) == lower_case(b); });
}

}  // namespace retort
