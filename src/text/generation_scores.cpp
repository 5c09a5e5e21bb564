#include "text/generation_scores.h"

#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "text/unicode.h"

namespace retort {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

std::string valid(std::string_view text) { return replace_invalid_utf8(text, InvalidUtf8::maximal_subparts); }

bool is_space(uint32_t c) { return character_table()[c] & kSpace || (c >= 0x1C && c <= 0x1F); }

// Without white space, as Python's str.split() takes it.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const auto [c, length] = decode_utf8(text.data() + at);
    if (is_space(c)) {
      inside = false;
    } else {
      if (!inside) words.emplace_back();
      words.back() += text.substr(at, length);
      inside = true;
    }
    at += length;
  }
  return words;
}

// [\{-\~\[-\` -\&\(-\+\:-\@\/] of mteval-v13a.
bool stands_alone(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
         (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

bool is_mark(char c) { return c == '.' || c == ','; }

template <class Unit> using Counts = std::map<std::vector<Unit>, int64_t>;

template <class Unit> Counts<Unit> n_grams(const std::vector<Unit>& units, size_t n) {
  Counts<Unit> counts;
  for (size_t i = 0; i + n <= units.size(); ++i)
    ++counts[{units.begin() + static_cast<std::ptrdiff_t>(i),
              units.begin() + static_cast<std::ptrdiff_t>(i + n)}];
  return counts;
}

template <class Unit> int64_t common(const Counts<Unit>& a, const Counts<Unit>& b) {
  int64_t sum = 0;
  for (const auto& [gram, count] : a)
    if (const auto other = b.find(gram); other != b.end()) sum += std::min(count, other->second);
  return sum;
}

int64_t grams(size_t units, size_t n) { return units < n ? 0 : static_cast<int64_t>(units - n + 1); }

std::vector<uint32_t> characters_of(std::string_view text) {
  const auto whole = valid(text);
  std::vector<uint32_t> characters;
  for (size_t at = 0; at < whole.size();) {
    const auto [c, length] = decode_utf8(whole.data() + at);
    if (!is_space(c)) characters.push_back(c);
    at += length;
  }
  return characters;
}

std::string lower(std::string_view text) {
  const auto whole = valid(text);
  std::string out;
  for (size_t at = 0; at < whole.size();) {
    const auto [c, length] = decode_utf8(whole.data() + at);
    if (c == 0x130) out += "i\u0307";  // the only character whose lower case is two
    else append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    at += length;
  }
  return out;
}

std::vector<std::string> rouge_words(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (const char c : lower(text)) {
    const bool part = (c >= 'a' && c <= 'z') || is_digit(c);
    if (part && !inside) words.emplace_back();
    if (part) words.back() += c;
    inside = part;
  }
  return words;
}

std::string joined(std::string_view text) {
  std::string out;
  for (const auto& word : split(lower(text))) out += (out.empty() ? "" : " ") + word;
  return out;
}

}  // namespace

std::vector<std::string> bleu_tokens(std::string_view raw) {
  auto text = valid(raw);
  while (!text.empty() && (text.back() == ' ' || (text.back() >= '\t' && text.back() <= '\r')))
    text.pop_back();
  text = replaced(std::move(text), "<skipped>", "");
  text = replaced(std::move(text), "-\n", "");
  text = replaced(std::move(text), "\n", " ");
  if (text.find('&') != std::string::npos)
    for (const auto& [name, c] : {std::pair{"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}})
      text = replaced(std::move(text), name, c);
  text = " " + text + " ";
  std::string apart;
  for (const char c : text)
    if (stands_alone(c)) (apart += ' ') += c, apart += ' ';
    else apart += c;
  std::string before;  // ([^0-9])([\.,]) -> \1 \2, each pair once
  for (size_t i = 0; i < apart.size(); ++i) {
    before += apart[i];
    if (i + 1 >= apart.size() || is_digit(apart[i]) || !is_mark(apart[i + 1])) continue;
    (before += ' ') += apart[++i];
    before += ' ';
  }
  std::string behind;  // ([\.,])([^0-9]) ->  \1 \2
  for (size_t i = 0; i < before.size(); ++i) {
    if (!is_mark(before[i]) || i + 1 >= before.size() || is_digit(before[i + 1])) {
      behind += before[i];
      continue;
    }
    (behind += ' ') += before[i];
    (behind += ' ') += before[++i];
  }
  std::string dashed;  // ([0-9])(-) -> \1 \2
  for (size_t i = 0; i < behind.size(); ++i) {
    dashed += behind[i];
    if (i + 1 >= behind.size() || !is_digit(behind[i]) || behind[i + 1] != '-') continue;
    dashed += " - ";
    ++i;
  }
  return split(dashed);
}

void Bleu::add(std::string_view expected, std::string_view got) {
  const auto wanted = bleu_tokens(expected), found = bleu_tokens(got);
  for (size_t n = 1; n <= kOrder; ++n) {
    right_[n - 1] += common(n_grams(found, n), n_grams(wanted, n));
    all_[n - 1] += grams(found.size(), n);
  }
  expected_ += static_cast<int64_t>(wanted.size());
  got_ += static_cast<int64_t>(found.size());
}

double Bleu::score() const {
  if (std::all_of(right_.begin(), right_.end(), [](int64_t count) { return count == 0; })) return 0;
  double smooth = 1, logs = 0;
  for (size_t n = 0; n < kOrder; ++n) {
    if (all_[n] == 0) return 0;  // no answer has so many tokens: a precision of 0
    if (right_[n] == 0) smooth *= 2;
    const double share = right_[n] == 0 ? 1 / (smooth * static_cast<double>(all_[n]))
                                        : static_cast<double>(right_[n]) / static_cast<double>(all_[n]);
    logs += std::log(100 * share);
  }
  const double shorter =
      got_ < expected_ ? std::exp(1 - static_cast<double>(expected_) / static_cast<double>(got_)) : 1;
  return shorter * std::exp(logs / kOrder);
}

void Chrf::add(std::string_view expected, std::string_view got) {
  const auto wanted = characters_of(expected), found = characters_of(got);
  for (size_t n = 1; n <= kOrder; ++n) {
    const auto of_expected = grams(wanted.size(), n);
    right_[n - 1] += common(n_grams(found, n), n_grams(wanted, n));
    expected_[n - 1] += of_expected;
    if (of_expected > 0) got_[n - 1] += grams(found.size(), n);
  }
}

double Chrf::score() const {
  double precision = 0, recall = 0;
  int orders = 0;
  for (size_t n = 0; n < kOrder; ++n) {
    if (got_[n] == 0 || expected_[n] == 0) continue;
    precision += static_cast<double>(right_[n]) / static_cast<double>(got_[n]);
    recall += static_cast<double>(right_[n]) / static_cast<double>(expected_[n]);
    ++orders;
  }
  if (precision + recall == 0) return 0;
  precision /= orders, recall /= orders;
  constexpr double kFactor = 4;  // beta 2, squared
  return 100 * (1 + kFactor) * precision * recall / (kFactor * precision + recall);
}

double rouge_l(std::string_view expected, std::string_view got) {
  const auto wanted = rouge_words(expected), found = rouge_words(got);
  if (wanted.empty() || found.empty()) return 0;
  std::vector<size_t> above(found.size() + 1), row(found.size() + 1);
  for (const auto& word : wanted) {
    for (size_t k = 0; k < found.size(); ++k)
      row[k + 1] = word == found[k] ? above[k] + 1 : std::max(above[k + 1], row[k]);
    std::swap(above, row);
  }
  const auto length = static_cast<double>(above.back());
  if (length == 0) return 0;
  const double precision = length / static_cast<double>(found.size()),
               recall = length / static_cast<double>(wanted.size());
  return 2 * precision * recall / (precision + recall);
}

bool holds_citations(std::string_view expected, std::string_view got) {
  constexpr std::pair<std::string_view, std::string_view> kQuotes[] = {
      {"\"", "\""}, {"„", "“"}, {"“", "”"}, {"«", "»"}, {"「", "」"}};
  const auto answer = joined(got);
  bool any = false;
  for (const auto& [open, close] : kQuotes)
    for (size_t at = 0; (at = expected.find(open, at)) != std::string_view::npos;) {
      const auto begin = at + open.size(), end = expected.find(close, begin);
      if (end == std::string_view::npos) break;
      if (const auto passage = joined(expected.substr(begin, end - begin)); !passage.empty()) {
        any = true;
        if (answer.find(passage) == std::string::npos) return false;
      }
      at = end + close.size();
    }
  return any || answer.find(joined(expected)) != std::string::npos;
}

}  // namespace retort
