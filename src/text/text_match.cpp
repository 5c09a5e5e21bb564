#include "text/text_match.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <vector>

#include "text/chat_pieces.h"

namespace retort {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> found;
  for (std::string word; in >> word;) found.push_back(word);
  return found;
}

}  // namespace

std::string normalised_answer(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 128 && std::ispunct(byte)) continue;
    plain += byte < 128 ? static_cast<char>(std::tolower(byte)) : c;
  }
  std::string joined;
  for (const auto& word : words(plain)) {
    if (word == "a" || word == "an" || word == "the") continue;
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

double token_f1(std::string_view expected, std::string_view got) {
  const auto wanted = words(normalised_answer(expected)), found = words(normalised_answer(got));
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
  const auto a = trimmed(expected), b = trimmed(got);
  return !a.empty() && !b.empty() && a[0] == b[0];
}

bool first_line_equal(std::string_view expected, std::string_view got) {
  const auto first_line = [](std::string_view text) { return trimmed(text.substr(0, text.find('\n'))); };
  return first_line(trimmed(expected)) == first_line(trimmed(got));
}

double prefix_share(std::string_view expected, std::string_view got) {
  const auto a = trimmed(expected), b = trimmed(got);
  if (a.empty()) return b.empty() ? 1 : 0;
  const auto limit = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  const auto equal = std::mismatch(a.begin(), a.begin() + limit, b.begin()).first - a.begin();
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

}  // namespace retort
