#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/error.h"

namespace retort {
namespace {

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

Pattern::Pattern(std::string_view pattern, std::string key) : key_(std::move(key)) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto* code = pcre2_compile(units(pattern), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &error,
                             &offset, nullptr);
  if (!code) {
    PCRE2_UCHAR message[120];
    pcre2_get_error_message(error, message, sizeof message);
    throw RecipeError(fmt::format("{}: expected a regular expression, found '{}': {} at character {}", key_,
                                  printable(pattern), reinterpret_cast<const char*>(message), offset));
  }
  code_ = {code, [](void* made) { pcre2_code_free(static_cast<pcre2_code*>(made)); }};
}

bool Pattern::found_in(std::string_view text, std::string_view place) const {
  bool found = false;
  each_in(text, place, [&](std::string_view) {
    found = true;
    return false;
  });
  return found;
}

void Pattern::each_in(std::string_view text, std::string_view place,
                      const std::function<bool(std::string_view found)>& take) const {
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(limits.get(), 10'000'000);
  pcre2_set_heap_limit(limits.get(), 64 << 10);  // KiB
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  for (size_t from = 0; from <= text.size();) {
    const int found = pcre2_match(static_cast<const pcre2_code*>(code_.get()), units(text), text.size(), from,
                                  0, match.get(), limits.get());
    if (found == PCRE2_ERROR_NOMATCH) return;
    if (found < 0)
      throw RecipeError(fmt::format("{}: this regular expression takes too many steps on {}; make it simpler",
                                    key_, printable(place)));
    const auto* ends = pcre2_get_ovector_pointer(match.get());
    if (!take(text.substr(ends[0], ends[1] - ends[0]))) return;
    from = std::max(ends[1], ends[0] + 1);
    while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
  }
}

}  // namespace retort
