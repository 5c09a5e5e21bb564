#include "run/text_search.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <set>

#include "base/random.h"

namespace retort {
namespace {

constexpr size_t kPiecesOfText = 6;
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

uint64_t hash_of(std::string_view piece) { return mix_bits(std::hash<std::string_view>()(piece)); }

size_t place_in_filter(uint64_t bits) { return mix_bits(bits) >> (64 - kFilterBits); }

}  // namespace

template <class Met> bool TextSearch::meet(std::string_view bytes, Met&& met) const {
  for (size_t i = 0; i + kPiece <= bytes.size(); ++i) {
    const auto bits = first_bytes(bytes.data() + i);
    if (!filter_[place_in_filter(bits)]) continue;
    const auto [begin, end] = index_.equal_range(bits);
    for (auto found = begin; found != end; ++found)
      if (bytes.substr(i, kPiece) == pieces_[found->second].text && met(found->second)) return true;
  }
  return false;
}

// From the end: what is a text's own stands behind what introduces it more often than not.
void TextSearch::add(std::string_view text, bool own, Pieces pieces) {
  size_t taken = 0, plain = 0;
  for (size_t end = text.size(); end > 0 && taken < kPiecesOfText; --end) {
    plain = is_plain(text[end - 1]) ? plain + 1 : 0;
    if (plain < kPiece) continue;
    plain = 0;
    const auto piece = text.substr(end - 1, kPiece);
    if (!is_telling(piece)) continue;
    ++taken;
    const bool sampled = pieces == Pieces::sampled;
    if (sampled && hash_of(piece) > last_) continue;
    const auto [place, is_new] = added_.emplace(piece, Added{own, sampled});
    auto& added = place->second;
    if (is_new) {
      if (sampled) ++sampled_;
      continue;
    }
    added.own = added.own && own;
    if (added.sampled && !sampled) added.sampled = false, --sampled_;
  }
  keep_to_most();
}

// Half of the hashes go at a time.
void TextSearch::keep_to_most() {
  while (sampled_ > most_pieces_ && last_ > 0) {
    last_ /= 2;
    sampled_ -= std::erase_if(
        added_, [&](const auto& one) { return one.second.sampled && hash_of(one.first) > last_; });
  }
}

double TextSearch::share() const { return std::ldexp(static_cast<double>(last_), -64); }

void TextSearch::make_index() {
  filter_.assign(size_t{1} << kFilterBits, false);
  index_.clear();
  for (size_t number = 0; number < pieces_.size(); ++number) {
    const auto bits = first_bytes(pieces_[number].text.data());
    filter_[place_in_filter(bits)] = true;
    index_.emplace(bits, number);
  }
}

void TextSearch::count(std::string_view text) {
  if (!added_.empty()) {
    for (const auto& [piece, added] : added_) pieces_.push_back({piece, added.own, 0});
    added_.clear();
    make_index();
  }
  if (pieces_.empty()) return;
  std::unordered_set<size_t> here;  // a text may have a piece twice
  meet(text, [&](size_t number) {
    here.insert(number);
    return false;
  });
  for (const auto number : here) ++pieces_[number].texts;
}

void TextSearch::close(std::string_view known) {
  count("");
  std::erase_if(pieces_, [&](const Piece& piece) {
    return (piece.own && piece.texts > 1) || known.find(piece.text) != known.npos;
  });
  make_index();
}

bool TextSearch::finds_any(std::string_view bytes) const {
  return meet(bytes, [](size_t) { return true; });
}

}  // namespace retort
