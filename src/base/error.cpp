#include "base/error.h"

#include <algorithm>

namespace retort {

void corrupt(std::string_view file, std::string_view object, std::string_view problem) {
  throw FormatError(object.empty() ? fmt::format("{}: {}", printable(file), problem)
                                   : fmt::format("{}: {}: {}", printable(file), printable(object), problem));
}

namespace {

uint32_t code_of(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  uint32_t code = character.size() == 4   ? lead & 0x07
                  : character.size() == 3 ? lead & 0x0F
                  : character.size() == 2 ? lead & 0x1F
                                          : lead;
  for (const char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
  return code;
}

// Characters that are not seen but turn, hide or break what is: directions of writing, separators of lines,
// invisible operators and tags. Joiners stay, which scripts and emoji need.
bool drives_the_terminal(std::string_view character) {
  const auto c = code_of(character);
  return c == 0x061C || c == 0x180E || c == 0x200B || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF ||
         (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (out.size() >= kLongest) return out + "...";
    const auto byte = static_cast<unsigned char>(text[i]);
    int length = byte < 0x80                   ? 1
                 : byte >= 0xC2 && byte < 0xE0 ? 2
                 : byte >= 0xE0 && byte < 0xF0 ? 3
                 : byte >= 0xF0 && byte < 0xF5 ? 4
                                               : 0;
    bool valid = length > 0 && i + length <= text.size();
    for (int k = 1; valid && k < length; ++k)
      valid = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    if (valid && drives_the_terminal(text.substr(i, length))) {
      out += fmt::format("\\u{{{:x}}}", code_of(text.substr(i, length)));
      i += length - 1;
      continue;
    }
    if (!valid || byte < 0x20 || byte == 0x7F ||
        (byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0)) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out.append(text.substr(i, length));
      i += length - 1;
    }
  }
  return out;
}

std::string bytes(uint64_t count) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (count < 1024) return fmt::format("{} bytes", count);
  double value = static_cast<double>(count);
  int unit = -1;
  while (value >= 1024 && unit < 5) value /= 1024, ++unit;
  return fmt::format("{} bytes ({:.1f} {})", count, value, kUnits[unit]);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    std::vector<size_t> before, last, row(candidate.size() + 1);  // rows i-2, i-1 and i of the table
    for (size_t j = 0; j <= candidate.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      before = std::move(last);
      last = std::move(row);
      row.assign(candidate.size() + 1, i);
      for (size_t j = 1; j <= candidate.size(); ++j) {
        row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (word[i - 1] != candidate[j - 1])});
        const bool swapped =
            i > 1 && j > 1 && word[i - 1] == candidate[j - 2] && word[i - 2] == candidate[j - 1];
        if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    if (row.back() < best_distance) best_distance = row.back(), best = candidate;
  }
  return best;
}

}  // namespace retort
