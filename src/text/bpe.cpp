#include "text/bpe.h"

#include <algorithm>
#include <stdexcept>

#include "base/error.h"
#include "text/piece_cache.h"

namespace retort {
namespace {
constexpr std::string_view kSpaceMark = "\u2581";
}

struct BpeTokenizer::Work {
  std::vector<int32_t>& ids;
  PieceCache& cache;
  std::vector<int32_t> symbols;
  std::string normalized;
};

std::vector<int32_t> BpeTokenizer::encode(std::string_view text, Specials specials) const {
  return encode_from(text, specials == Specials::as_tokens, true);
}

std::vector<int32_t> BpeTokenizer::encode_behind(std::string_view text) const {
  return encode_from(text, false, false);
}

// `first`: the text begins a whole one.
std::vector<int32_t> BpeTokenizer::encode_from(std::string_view text, bool control, bool first) const {
  std::vector<int32_t> ids;
  if (text.empty()) return ids;
  if (text.size() > UINT32_MAX / 4)
    throw Failure(fmt::format("a text of {} cannot be tokenized in one piece; split it", bytes(text.size())));
  std::string valid;
  if (!valid_utf8(text)) {
    valid = replace_invalid_utf8(text, model_.invalid_utf8);
    text = valid;
  }
  ids.reserve(text.size() / 3 + 4);
  Work work{ids, PieceCache::of_this_thread(serial_), {}, {}};
  if (raw_added_.empty()) {
    encode_plain(text, first, control, work);
    require_rows(ids);
    return ids;
  }
  for (size_t at = 0; at < text.size();) {
    const auto match = raw_added_.find(text, at, control);
    if (match.begin > at) encode_plain(text.substr(at, match.begin - at), first && at == 0, control, work);
    if (match.token != nullptr) ids.push_back(match.token->id);
    at = match.end;
  }
  require_rows(ids);
  return ids;
}

// Text between added tokens: normalized, searched for the added tokens that are normalized themselves, and
// encoded.
void BpeTokenizer::encode_plain(std::string_view text, bool first, bool control, Work& work) const {
  std::string composed;
  if (model_.nfc && !surely_nfc(text)) {
    composed = nfc(text);
    text = composed;
  }
  if (model_.alphabet == BpeModel::Alphabet::characters) {
    std::string& marked = work.normalized;
    marked.clear();
    marked.reserve(text.size() + text.size() / 2 + 8);
    const bool there = model_.prefix_unless_there && (text.starts_with(' ') || text.starts_with(kSpaceMark));
    if (model_.prefix == BpeModel::Prefix::always || (model_.prefix == BpeModel::Prefix::first && first))
      if (!there) marked += kSpaceMark;
    for (size_t at = 0; at < text.size();) {
      const size_t space = std::min(text.find(' ', at), text.size());
      marked.append(text, at, space - at);
      if (space < text.size()) marked += kSpaceMark;
      at = space + 1;
    }
    text = marked;
  }
  if (normalized_added_.empty()) return encode_words(text, work);
  for (size_t at = 0; at < text.size();) {
    const auto match = normalized_added_.find(text, at, control);
    if (match.begin > at) encode_words(text.substr(at, match.begin - at), work);
    if (match.token != nullptr) work.ids.push_back(match.token->id);
    at = match.end;
  }
}

bool BpeTokenizer::cut_before_space(std::string_view text, size_t at) const {
  if (model_.split_words) return true;
  const auto last = static_cast<uint8_t>(text[at - 1]);
  if (last < 0x80) return !ascii_before_space_[last];
  do --at;
  while ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
  return !std::ranges::binary_search(before_space_, decode_utf8(text.data() + at).code_point);
}

void BpeTokenizer::encode_words(std::string_view text, Work& work) const {
  if (model_.alphabet == BpeModel::Alphabet::bytes) {
    each_piece(scanners_, text, [&](std::string_view piece) { encode_piece(piece, work); });
    return;
  }
  // SentencePiece merges over the whole text. Cutting where no token reaches across gives the same ids and
  // short pieces.
  const size_t first = work.ids.size();
  size_t begin = 0;
  const auto take = [&](size_t end) {
    const size_t before = work.ids.size();
    encode_piece(text.substr(begin, end - begin), work);
    if (model_.fuse_unknown && model_.unknown && before > first && before < work.ids.size() &&
        work.ids[before] == *model_.unknown && work.ids[before - 1] == *model_.unknown)
      work.ids.erase(work.ids.begin() + static_cast<ptrdiff_t>(before));
    begin = end;
  };
  for (size_t at = text.find(kSpaceMark, 1); at < text.size(); at = text.find(kSpaceMark, at + 1))
    if (cut_before_space(text, at)) take(at);
  if (begin < text.size()) take(text.size());
}

void BpeTokenizer::encode_piece(std::string_view piece, Work& work) const {
  if (piece.size() > PieceCache::kLongestKey) return merge_piece(piece, work);
  PieceCache::Entry& entry = work.cache.place(piece);
  if (entry.holds(piece)) {
    work.ids.insert(work.ids.end(), entry.ids, entry.ids + entry.count);
    return;
  }
  const size_t first = work.ids.size();
  merge_piece(piece, work);
  const size_t count = work.ids.size() - first;
  if (count > PieceCache::kMostIds) return;
  entry.length = static_cast<uint8_t>(piece.size());
  entry.count = static_cast<uint8_t>(count);
  std::ranges::copy(piece, entry.key);
  std::copy(work.ids.begin() + static_cast<ptrdiff_t>(first), work.ids.end(), entry.ids);
}

void BpeTokenizer::merge_piece(std::string_view piece, Work& work) const {
  std::vector<int32_t>& symbols = work.symbols;
  symbols.clear();
  if (model_.alphabet == BpeModel::Alphabet::bytes) {
    if (model_.ignore_merges) {
      const auto whole = by_bytes_.find(piece);
      if (whole != by_bytes_.end()) {
        work.ids.push_back(whole->second);
        return;
      }
    }
    for (const char byte : piece)
      if (const int32_t symbol = byte_symbols_[static_cast<uint8_t>(byte)]; symbol >= 0)
        symbols.push_back(symbol);  // a byte that is no token is lost, as in the reference
    merge_symbols(pairs_, symbols);
    work.ids.insert(work.ids.end(), symbols.begin(), symbols.end());
    return;
  }
  for (size_t at = 0; at < piece.size();) {
    const auto byte = static_cast<uint8_t>(piece[at]);
    if (byte < 0x80) {
      symbols.push_back(ascii_symbols_[byte]);
      ++at;
      continue;
    }
    const Decoded character = decode_utf8(piece.data() + at);
    const auto known = character_symbols_.find(character.code_point);
    symbols.push_back(known == character_symbols_.end() ? -2 - static_cast<int32_t>(character.code_point)
                                                        : known->second);
    at += character.length;
  }
  merge_symbols(pairs_, symbols);
  const auto count = static_cast<int32_t>(model_.tokens.size());
  for (const int32_t symbol : symbols) {
    if (symbol >= 0 && symbol < count) work.ids.push_back(symbol);
    else spell_out(symbol, work);
  }
}

// A character that is no token: its bytes' tokens, or the unknown token.
void BpeTokenizer::spell_out(int32_t symbol, Work& work) const {
  const uint32_t code_point = symbol < 0
                                  ? static_cast<uint32_t>(-2 - symbol)
                                  : extra_characters_[static_cast<size_t>(symbol) - model_.tokens.size()];
  std::string text;
  append_utf8(text, code_point);
  const auto token = [this](char byte) { return byte_symbols_[static_cast<uint8_t>(byte)]; };
  if (model_.byte_fallback && std::ranges::all_of(text, [&](char byte) { return token(byte) >= 0; })) {
    for (const char byte : text) work.ids.push_back(token(byte));
  } else if (model_.unknown &&
             !(model_.fuse_unknown && !work.ids.empty() && work.ids.back() == *model_.unknown)) {
    work.ids.push_back(*model_.unknown);
  }
}

const std::string& BpeTokenizer::spelling(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= model_.tokens.size())
    throw std::out_of_range(
        fmt::format("token {} does not exist; the tokenizer has {} tokens", id, model_.tokens.size()));
  return model_.tokens[static_cast<size_t>(id)];
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string& spelled = spelling(id);
    if (!is_special(id)) text += bytes_[static_cast<size_t>(id)];
    else if (!skip_special) text += spelled;
  }
  if (model_.prefix != BpeModel::Prefix::never && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string BpeTokenizer::token_bytes(int32_t id) const {
  static_cast<void>(spelling(id));
  return bytes_[static_cast<size_t>(id)];
}

std::string BpeTokenizer::token_text(int32_t id) const { return spelling(id); }

std::optional<int32_t> BpeTokenizer::find(std::string_view token_text) const {
  const auto found = by_spelling_.find(token_text);
  return found == by_spelling_.end() ? std::nullopt : std::optional(found->second);
}

bool BpeTokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < model_.types.size() &&
         model_.types[static_cast<size_t>(id)] == TokenType::control;
}

}  // namespace retort
