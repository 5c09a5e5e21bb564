#include "text/deepseek_llm.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "text/unicode.h"

namespace retort {

namespace {

// The characters between the brackets of a pattern: each on its own, or the first and the last of a range.
class Characters {
 public:
  explicit Characters(std::string_view pattern) {
    const auto open = pattern.find('['), close = pattern.find(']');
    const char *at = pattern.data() + open + 1, *end = pattern.data() + close;
    while (at < end) {
      const auto first = take(at);
      auto last = first;
      if (at < end && *at == '-') last = take(++at);
      ranges_.push_back({first, last});
    }
    std::ranges::sort(ranges_, {}, &Range::first);
    size_t kept = 0;
    for (const auto& range : ranges_) {  // ranges may overlap
      if (kept > 0 && range.first <= ranges_[kept - 1].last + 1)
        ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, range.last);
      else ranges_[kept++] = range;
    }
    ranges_.resize(kept);
  }
  bool hold(uint32_t c) const {
    const auto after = std::ranges::upper_bound(ranges_, c, {}, &Range::first);
    return after != ranges_.begin() && c <= std::prev(after)->last;
  }

 private:
  struct Range {
    uint32_t first, last;
  };
  static uint32_t take(const char*& at) {
    const auto character = decode_utf8(at);
    at += character.length;
    return character.code_point;
  }
  std::vector<Range> ranges_;
};

bool is_space(const char* at) { return (character_table()[decode_utf8(at).code_point] & kSpace) != 0; }

const char* past(const Characters& characters, const char* at, const char* end) {
  while (at < end && characters.hold(decode_utf8(at).code_point)) at += utf8_length(*at);
  return at;
}

// A run of these characters, with a space in front where one stands there; or nullptr.
const char* word(const Characters& characters, const char* at, const char* end) {
  if (const char* stop = past(characters, at, end); stop > at) return stop;
  if (!is_space(at)) return nullptr;
  const char* const behind = at + utf8_length(*at);
  const char* const stop = past(characters, behind, end);
  return stop > behind ? stop : nullptr;
}

template <class Match> const char* match_or_rest(const char* at, const char* end, const Match& match) {
  if (const char* stop = match(at)) return stop;
  do at += utf8_length(*at);
  while (at < end && match(at) == nullptr);
  return at;
}

}  // namespace

const char* line_end(const char* at, const char* end) {
  const auto is_end = [](char c) { return c == '\r' || c == '\n'; };
  return is_end(*at) ? at + 1 : std::find_if(at, end, is_end);
}

const char* cased_letters(const char* at, const char* end) {
  static const Characters characters(kCasedLettersPattern);
  return match_or_rest(at, end, [&](const char* here) { return word(characters, here, end); });
}

const char* ascii_symbols(const char* at, const char* end) {
  static const Characters characters(kAsciiSymbolsPattern);
  return match_or_rest(at, end, [&](const char* here) { return word(characters, here, end); });
}

const char* trailing_spaces(const char* at, const char* end) {
  const char* first = end;  // of the spaces that reach to the end
  for (const char* here = at; here < end; here += utf8_length(*here)) {
    if (!is_space(here)) first = end;
    else if (first == end) first = here;
  }
  return first > at ? first : end;
}

const char* cjk(const char* at, const char* end) {
  static const Characters characters(kCjkPattern);
  return match_or_rest(at, end, [&](const char* here) {
    const char* const stop = past(characters, here, end);
    return stop > here ? stop : nullptr;
  });
}

}  // namespace retort
