// Checks a BpeModel from outside and builds the tables that encoding needs.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "base/hash.h"
#include "text/bpe.h"

namespace retort {
namespace {

constexpr uint32_t kSpaceMark = 0x2581;
constexpr std::string_view kSpaceMarkText = "\u2581";

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> characters;
  for (size_t at = 0; at < text.size();) {
    const Decoded character = decode_utf8(text.data() + at);
    characters.push_back(character.code_point);
    at += character.length;
  }
  return characters;
}

}  // namespace

std::string spelling_of_hole(int64_t id) { return fmt::format("[PAD{}]", id); }

int byte_of_spelling(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return -1;
  int value = -1;
  const auto parsed = std::from_chars(spelling.data() + 3, spelling.data() + 5, value, 16);
  return parsed.ptr == spelling.data() + 5 ? value : -1;
}

std::string spaces_for_marks(std::string_view spelling) {
  std::string text;
  for (size_t at = 0; at < spelling.size();) {
    const size_t mark = spelling.find(kSpaceMarkText, at);
    text += spelling.substr(at, mark - at);
    if (mark == std::string_view::npos) break;
    text += ' ';
    at = mark + kSpaceMarkText.size();
  }
  return text;
}

bool looks_like_control(std::string_view spelling) {
  const auto framed = [&](std::string_view begin, std::string_view end) {
    return spelling.size() >= begin.size() + end.size() && spelling.starts_with(begin) &&
           spelling.ends_with(end);
  };
  return framed("<|", "|>") || framed("<｜", "｜>") || framed("<unused", ">") || spelling == "<pad>" ||
         spelling == "<mask>" || spelling == "<2mass>" || spelling == "[@BOS@]";
}

BpeTokenizer::BpeTokenizer(BpeModel model, std::string_view file) : model_(std::move(model)) {
  static std::atomic<uint64_t> next_serial{1};
  serial_ = next_serial++;
  check(file);
  index_tokens(file);
  for (const Split split : model_.splits) scanners_.push_back(scanner(split));
  for (const AddedToken& token : model_.added) (token.normalized ? normalized_added_ : raw_added_).add(token);
  if (model_.alphabet == BpeModel::Alphabet::characters) index_characters();
  if (model_.order == BpeModel::Order::merges) {
    index_merges(file);
  } else {
    const std::vector<RankedMerge> pairs = split_pairs();
    pairs_ = MergeTable(pairs.size());
    for (const RankedMerge& merge : pairs)
      static_cast<void>(pairs_.insert(merge.left, merge.right,
                                      {merge.rank, merge.result}));  // one spelling, one token: never twice
  }
  if (model_.alphabet == BpeModel::Alphabet::characters) index_neighbours();
  bos = model_.bos;
  eos = model_.eos;
  pad = model_.pad;
  unknown = model_.unknown;
  add_bos = model_.add_bos.value_or(false);
}

BpeTokenizer::~BpeTokenizer() = default;

void BpeTokenizer::check(std::string_view file) const {
  const size_t count = model_.tokens.size();
  if (count == 0) corrupt(file, "tokenizer", "has no tokens");
  if (count > kMostTokens)
    corrupt(file, "tokenizer", fmt::format("has {} tokens; at most {} are read", count, kMostTokens));
  if (model_.types.size() != count)
    corrupt(file, "tokenizer", fmt::format("has {} tokens but {} token types", count, model_.types.size()));
  if (model_.order == BpeModel::Order::scores && model_.scores.size() != count)
    corrupt(file, "tokenizer", fmt::format("has {} tokens but {} scores", count, model_.scores.size()));
  for (const float score : model_.scores)
    if (!(score >= std::numeric_limits<float>::lowest() && score <= std::numeric_limits<float>::max()))
      corrupt(file, "tokenizer", "a score is not a number");
  for (size_t id = 0; id < count; ++id) {
    if (model_.tokens[id].size() > kLongestToken)
      corrupt(file, fmt::format("token {}", id),
              fmt::format("is {} long; at most {} are read", bytes(model_.tokens[id].size()),
                          bytes(kLongestToken)));
    const auto type = static_cast<int>(model_.types[id]);
    if (type < 1 || type > 6)
      corrupt(file, fmt::format("token {}", id), fmt::format("has the type {}; types are 1 to 6", type));
  }
  const auto in_range = [&](std::optional<int32_t> id, std::string_view name) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= count))
      corrupt(file, name, fmt::format("is token {}, but there are {} tokens", *id, count));
  };
  in_range(model_.bos, "beginning-of-text token");
  in_range(model_.eos, "end-of-text token");
  in_range(model_.pad, "padding token");
  in_range(model_.unknown, "unknown token");
  for (const AddedToken& token : model_.added) {
    in_range(token.id, "added token");
    if (token.text.size() > kLongestToken)
      corrupt(file, "added token",
              fmt::format("is {} long; at most {} are read", bytes(token.text.size()), bytes(kLongestToken)));
  }
  for (const auto& [left, right] : model_.merges) {
    in_range(left, "merge");
    in_range(right, "merge");
  }
}

void BpeTokenizer::index_tokens(std::string_view file) {
  const size_t count = model_.tokens.size();
  byte_symbols_.fill(-1);
  for (size_t i = 0; i < count; ++i)
    if (model_.types[i] == TokenType::unused && model_.tokens[i] == spelling_of_hole(static_cast<int64_t>(i)))
      holes_.push_back(static_cast<int32_t>(i));
  for (const auto& token : model_.added)
    if (token.control && token.strip_right) strip_right_.push_back(token.id);
  std::ranges::sort(strip_right_);
  by_spelling_.reserve(count);
  bytes_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string& spelling = model_.tokens[i];
    const auto [first, fresh] = by_spelling_.try_emplace(spelling, id);
    if (!fresh)
      corrupt(file, fmt::format("token {}", i),
              fmt::format("'{}' is also token {}; every token has its own spelling", printable(spelling),
                          first->second));
    if (!valid_utf8(spelling))
      corrupt(file, fmt::format("token {}", i), fmt::format("'{}' is not UTF-8", printable(spelling)));
    std::string& text = bytes_[i];
    switch (model_.types[i]) {
      case TokenType::control: break;
      case TokenType::byte:
        if (const int byte = byte_of_spelling(spelling); byte >= 0) {
          text = std::string(1, static_cast<char>(byte));
          byte_symbols_[static_cast<size_t>(byte)] = id;
        } else {
          corrupt(file, fmt::format("token {}", i),
                  fmt::format("'{}' is a byte token, which is spelled like <0x0A>", printable(spelling)));
        }
        break;
      case TokenType::user_defined:
        text = model_.alphabet == BpeModel::Alphabet::characters ? spaces_for_marks(spelling) : spelling;
        break;
      default:
        if (model_.alphabet == BpeModel::Alphabet::characters) text = spaces_for_marks(spelling);
        else if (!byte_level_bytes(spelling, text))
          text = spelling;  // "[PAD42]", "<unk> " and other ids that no text reaches
    }
  }
  if (model_.alphabet == BpeModel::Alphabet::bytes) {
    for (size_t i = 0; i < count; ++i) {
      if (!merges_into(static_cast<int32_t>(i)) || model_.tokens[i].empty()) continue;
      std::string text;
      if (!byte_level_bytes(model_.tokens[i], text)) continue;
      if (text.size() == 1) byte_symbols_[static_cast<uint8_t>(text[0])] = static_cast<int32_t>(i);
      by_bytes_.try_emplace(bytes_[i], static_cast<int32_t>(i));
    }
  }
}

bool BpeTokenizer::merges_into(int32_t id) const {
  // Spaces are U+2581 by the time that anything merges; tokens spelled with spaces (Gemma's, as llama.cpp's
  // converter writes them) are found in the text before.
  const bool characters = model_.alphabet == BpeModel::Alphabet::characters;
  if (characters && model_.tokens[static_cast<size_t>(id)].find(' ') != std::string::npos) return false;
  const TokenType type = model_.types[static_cast<size_t>(id)];
  return type == TokenType::normal ||
         (type == TokenType::unused && !std::ranges::binary_search(holes_, id)) ||
         (type == TokenType::user_defined && characters);
}

void BpeTokenizer::index_characters() {
  const auto count = static_cast<int32_t>(model_.tokens.size());
  for (int32_t id = 0; id < count; ++id) {
    const std::string& spelling = model_.tokens[static_cast<size_t>(id)];
    if (merges_into(id) && !spelling.empty() && utf8_length(spelling[0]) == spelling.size())
      character_symbols_[decode_utf8(spelling.data()).code_point] = id;
  }
  if (model_.order == BpeModel::Order::scores) {  // SentencePiece merges by spelling, so that a character
                                                  // need not be a token itself
    for (int32_t id = 0; id < count; ++id) {
      if (!merges_into(id)) continue;
      for (const uint32_t character : code_points(model_.tokens[static_cast<size_t>(id)])) {
        const auto [place, fresh] =
            character_symbols_.try_emplace(character, count + static_cast<int32_t>(extra_characters_.size()));
        if (fresh) extra_characters_.push_back(character);
      }
    }
  }
  for (uint32_t c = 0; c < 0x80; ++c) {
    const auto found = character_symbols_.find(c);
    ascii_symbols_[c] = found == character_symbols_.end() ? -2 - static_cast<int32_t>(c) : found->second;
  }
}

void BpeTokenizer::index_merges(std::string_view file) {
  pairs_ = MergeTable(model_.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < model_.merges.size(); ++rank) {
    const auto [left, right] = model_.merges[rank];
    joined.assign(model_.tokens[static_cast<size_t>(left)]).append(model_.tokens[static_cast<size_t>(right)]);
    const auto result = by_spelling_.find(joined);
    if (result == by_spelling_.end())
      corrupt(file, fmt::format("merge {}", rank),
              fmt::format("makes '{}', which is no token", printable(joined)));
    // Content never merges into a control token, even where the file says so: only Specials::as_tokens gives
    // those.
    const bool control = model_.types[static_cast<size_t>(result->second)] == TokenType::control;
    if (!pairs_.insert(left, right,
                       {control ? MergeTable::kNever : static_cast<uint32_t>(rank), result->second}))
      corrupt(file, fmt::format("merge {}", rank), fmt::format("of '{}' stands twice", printable(joined)));
  }
}

std::vector<RankedMerge> BpeTokenizer::split_pairs() const {
  const bool by_scores = model_.order == BpeModel::Order::scores;
  const size_t count = model_.tokens.size();
  std::vector<uint32_t> ranks(count);
  if (by_scores) {  // equal scores share a rank, so that the leftmost wins between them
    std::vector<float> sorted = model_.scores;
    std::ranges::sort(sorted, std::greater<>());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    for (size_t i = 0; i < count; ++i)
      ranks[i] = static_cast<uint32_t>(std::ranges::lower_bound(sorted, model_.scores[i], std::greater<>()) -
                                       sorted.begin());
  } else {
    for (size_t i = 0; i < count; ++i) ranks[i] = static_cast<uint32_t>(i);
  }
  const bool characters = model_.alphabet == BpeModel::Alphabet::characters;
  const auto symbol = [&](std::string_view part) -> int32_t {
    if (!characters) {
      const auto found = by_bytes_.find(part);
      return found == by_bytes_.end() ? -1 : found->second;
    }
    const auto found = by_spelling_.find(part);
    if (found != by_spelling_.end() && merges_into(found->second)) return found->second;
    return utf8_length(part[0]) == part.size() ? character_symbols_.at(decode_utf8(part.data()).code_point)
                                               : -1;
  };
  std::vector<RankedMerge> pairs;
  for (size_t i = 0; i < count; ++i) {
    if (!merges_into(static_cast<int32_t>(i))) continue;
    const std::string_view whole = characters ? model_.tokens[i] : bytes_[i];
    for (size_t cut = 1; cut < whole.size(); ++cut) {
      if (characters && (static_cast<uint8_t>(whole[cut]) & 0xC0) == 0x80) continue;
      const int32_t left = symbol(whole.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = symbol(whole.substr(cut));
      if (right >= 0) pairs.push_back({left, right, static_cast<int32_t>(i), ranks[i]});
    }
  }
  return pairs;
}

std::vector<RankedMerge> BpeTokenizer::merge_list() const {
  std::vector<RankedMerge> list;
  if (model_.order == BpeModel::Order::merges) {
    for (const auto& [left, right] : model_.merges) {
      const Merged merged = pairs_.find(left, right);
      list.push_back({left, right, merged.symbol, static_cast<uint32_t>(list.size())});
    }
    return list;
  }
  list = split_pairs();
  std::ranges::sort(list, {}, [](const RankedMerge& merge) {
    return std::tuple(merge.rank, merge.result, merge.left, merge.right);
  });
  return list;
}

std::vector<RankedMerge> BpeTokenizer::last_merges() const {
  std::vector<RankedMerge> list;
  std::vector<int32_t> symbols;
  for (size_t i = 0; i < model_.tokens.size(); ++i) {
    if (!merges_into(static_cast<int32_t>(i)) || bytes_[i].size() < 2) continue;
    symbols.clear();
    for (const char byte : bytes_[i]) symbols.push_back(byte_symbols_[static_cast<uint8_t>(byte)]);
    merge_symbols(pairs_, symbols, static_cast<uint32_t>(i));
    if (symbols.size() == 2)
      list.push_back({symbols[0], symbols[1], static_cast<int32_t>(i), static_cast<uint32_t>(i)});
  }
  return list;
}

void BpeTokenizer::index_neighbours() {
  for (size_t i = 0; i < model_.tokens.size(); ++i) {
    if (!merges_into(static_cast<int32_t>(i))) continue;
    uint32_t previous = 0;
    for (const uint32_t character : code_points(model_.tokens[i])) {
      if (character == kSpaceMark && previous != 0) before_space_.push_back(previous);
      previous = character;
    }
  }
  std::ranges::sort(before_space_);
  before_space_.erase(std::unique(before_space_.begin(), before_space_.end()), before_space_.end());
  for (const uint32_t character : before_space_)
    if (character < 0x80) ascii_before_space_[character] = true;
}

std::string BpeTokenizer::hash() const {
  Sha256 sha;
  sha.add(fmt::format("bpe {} {} {} {} {} {} {} {} {} {}\n", static_cast<int>(model_.alphabet),
                      static_cast<int>(model_.order), model_.ignore_merges, model_.nfc, model_.byte_fallback,
                      model_.fuse_unknown, static_cast<int>(model_.prefix), model_.prefix_unless_there,
                      model_.split_words, static_cast<int>(model_.invalid_utf8)));
  for (const Split split : model_.splits) sha.add(split_pattern(split)).add("\n");
  for (size_t i = 0; i < model_.tokens.size(); ++i)
    sha.add(fmt::format("{} {} ", static_cast<int>(model_.types[i]), model_.tokens[i].size()))
        .add(model_.tokens[i]);
  for (const auto& [left, right] : model_.merges) sha.add(fmt::format("{} {}\n", left, right));
  if (model_.order == BpeModel::Order::scores) sha.add(std::as_bytes(std::span(model_.scores)));
  for (const AddedToken& token : model_.added)
    sha.add(fmt::format("{} {}{}{}{}{}\n", token.id, token.control, token.normalized, token.strip_left,
                        token.strip_right, token.single_word));
  return sha.hex();
}

}  // namespace retort
