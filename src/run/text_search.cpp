#include "run/text_search.h"

#include <cstring>
#include <set>

#include "base/random.h"

namespace retort {
namespace {

constexpr size_t kPiecesOfText = 6, kMostPieces = size_t{1} << 18;
constexpr size_t kFilterBits = 22;
constexpr size_t kFewest = 8;  // different signs of a piece: a line of dashes is nobody's text

// What JSON and HTML write as it stands; letters beyond ASCII are among it.
bool is_plain(char c) {
  return static_cast<unsigned char>(c) >= ' ' && c != '\x7f' &&
         std::string_view("\"\\<>&'/").find(c) == std::string_view::npos;
}

bool is_telling(std::string_view piece) {
  return std::set<char>(piece.begin(), piece.end()).size() >= kFewest;
}

uint64_t first_bytes(const char* at) {
  uint64_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

size_t place_in_filter(uint64_t bits) { return mix_bits(bits) >> (64 - kFilterBits); }

}  // namespace

// From the end: what is a text's own stands behind what introduces it more often than not.
void TextSearch::add(std::string_view text, bool once) {
  size_t taken = 0, plain = 0;
  for (size_t end = text.size(); end > 0 && taken < kPiecesOfText && seen_.size() < kMostPieces; --end) {
    plain = is_plain(text[end - 1]) ? plain + 1 : 0;
    if (plain < kPiece) continue;
    const auto piece = text.substr(end - 1, kPiece);
    plain = 0;
    if (!is_telling(piece)) continue;
    auto& seen = seen_[std::string(piece)];
    ++seen.times;
    seen.once = seen.once && once;
    ++taken;
  }
}

void TextSearch::close(std::string_view text) {
  filter_.assign(size_t{1} << kFilterBits, false);
  for (const auto& [piece, seen] : seen_) {
    if ((seen.once && seen.times > 1) || text.find(piece) != text.npos) continue;
    const auto bits = first_bytes(piece.data());
    filter_[place_in_filter(bits)] = true;
    sought_.emplace(bits, piece);
  }
  seen_.clear();
}

bool TextSearch::finds_any(std::string_view bytes) const {
  for (size_t i = 0; i + kPiece <= bytes.size(); ++i) {
    const auto bits = first_bytes(bytes.data() + i);
    if (!filter_[place_in_filter(bits)]) continue;
    const auto [begin, end] = sought_.equal_range(bits);
    for (auto found = begin; found != end; ++found)
      if (bytes.substr(i, kPiece) == found->second) return true;
  }
  return false;
}

}  // namespace retort
