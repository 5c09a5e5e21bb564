#include "text/text_match.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <vector>

#include "text/chat_pieces.h"
#include "text/scripts.h"
#include "text/unicode.h"

namespace retort {
namespace {

// Answers may end inside a character.
std::string whole_characters(std::string_view text) {
  return replace_invalid_utf8(text, InvalidUtf8::maximal_subparts);
}

std::vector<uint32_t> characters_of(std::string_view text) {
  const auto valid = whole_characters(trimmed(text));
  std::vector<uint32_t> characters;
  for (size_t at = 0; at < valid.size();) {
    const auto [code_point, length] = decode_utf8(valid.data() + at);
    characters.push_back(code_point);
    at += length;
  }
  return characters;
}

bool punctuation(uint32_t c) {
  return character_table()[c] & kPunctuation || (c < 128 && character_table()[c] & kSymbol);
}

struct Word {
  std::string text;
  bool closed = false;  // a mark that ends something follows at once: no article ("A, B", "A.")
};

std::vector<Word> words_of(std::string_view raw) {
  const auto text = whole_characters(raw);
  std::vector<Word> words;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const auto [c, length] = decode_utf8(text.data() + at);
    at += length;
    if (character_table()[c] & kSpace) {
      inside = false;
    } else if (punctuation(c)) {
      if (inside &&
          (c >= 128 || std::string_view(".,;:!?)]").find(static_cast<char>(c)) != std::string_view::npos))
        words.back().closed = true;
    } else {
      if (!inside) words.emplace_back();
      inside = true;
      words.back().closed = false;
      append_utf8(words.back().text,
                  static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return words;
}

// Words, and single characters of scripts that put no space between words (as MLQA scores Chinese,
// arXiv:1910.07475).
std::vector<std::string> units_of(std::string_view normalised) {
  std::vector<std::string> units;
  bool inside = false;
  for (size_t at = 0; at < normalised.size();) {
    const auto [c, length] = decode_utf8(normalised.data() + at);
    const bool alone = written_without_spaces(c);
    if (c == ' ') {
      inside = false;
    } else {
      if (alone || !inside) units.emplace_back();
      units.back() += normalised.substr(at, length);
      inside = !alone;
    }
    at += length;
  }
  return units;
}

}  // namespace

std::string normalised_answer(std::string_view text) {
  const auto words = words_of(text);
  std::string joined;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto& [word, closed] = words[i];
    // An article stands before a word: the answers "A" and "Option A" keep theirs.
    const bool article = word == "a" || word == "an" || word == "the";
    if (article && !closed && i + 1 < words.size()) continue;
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

double token_f1(std::string_view expected, std::string_view got) {
  const auto wanted = units_of(normalised_answer(expected)), found = units_of(normalised_answer(got));
  if (wanted.empty() || found.empty()) return wanted.empty() && found.empty() ? 1 : 0;
  std::map<std::string, int> left;
  for (const auto& word : wanted) ++left[word];
  int common = 0;
  for (const auto& word : found)
    if (left[word]-- > 0) ++common;
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(found.size());
  const double recall = static_cast<double>(common) / static_cast<double>(wanted.size());
  return 2 * precision * recall / (precision + recall);
}

bool first_letter_equal(std::string_view expected, std::string_view got) {
  const auto a = characters_of(expected), b = characters_of(got);
  return !a.empty() && !b.empty() && a[0] == b[0];
}

bool first_line_equal(std::string_view expected, std::string_view got) {
  const auto first_line = [](std::string_view text) { return trimmed(text.substr(0, text.find('\n'))); };
  return first_line(trimmed(expected)) == first_line(trimmed(got));
}

double prefix_share(std::string_view expected, std::string_view got) {
  const auto a = characters_of(expected), b = characters_of(got);
  if (a.empty()) return b.empty() ? 1 : 0;
  const auto limit = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  const auto equal = std::mismatch(a.begin(), a.begin() + limit, b.begin()).first - a.begin();
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

}  // namespace retort
