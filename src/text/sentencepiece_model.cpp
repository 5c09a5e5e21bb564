#include "text/sentencepiece_model.h"

#include <bitset>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/error.h"

namespace retort {
namespace {

// Protocol buffers' wire format: fields of a message, each checked against the bytes that are left.
class Fields {
 public:
  Fields(std::string_view message, std::string_view file, std::string_view what)
      : message_(message), file_(file), what_(what) {}

  bool next() {
    if (at_ == message_.size()) return false;
    const uint64_t tag = varint();
    number = static_cast<uint32_t>(tag >> 3);
    const uint64_t wire = tag & 7;
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) bad("has a field without a number");
    whole_ = 0;
    text_ = {};
    if (wire == 0) {
      whole_ = varint();
    } else if (wire == 1 || wire == 5) {
      text_ = take(wire == 1 ? 8 : 4);
    } else if (wire == 2) {
      text_ = take(varint());
    } else {
      bad(fmt::format("has a field of wire type {}", wire));
    }
    kind_ = wire;
    return true;
  }
  std::string_view bytes() const {
    if (kind_ != 2) bad(fmt::format("field {} is not text", number));
    return text_;
  }
  uint64_t integer() const {
    if (kind_ != 0) bad(fmt::format("field {} is not a whole number", number));
    return whole_;
  }
  float real() const {
    if (kind_ != 5) bad(fmt::format("field {} is not a float", number));
    float value;
    std::memcpy(&value, text_.data(), sizeof value);
    return value;
  }
  uint32_t number = 0;

 private:
  [[noreturn]] void bad(const std::string& problem) const {
    corrupt(file_, what_, problem + "; is this a SentencePiece model?");
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == message_.size()) bad("ends inside a number");
      const auto byte = static_cast<uint8_t>(message_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    bad("has a number over 64 bits");
  }
  std::string_view take(uint64_t count) {
    if (count > message_.size() - at_)
      bad(fmt::format("a field of {} does not fit in the {} left; is the download complete?",
                      retort::bytes(count), retort::bytes(message_.size() - at_)));
    at_ += count;
    return message_.substr(at_ - count, count);
  }
  std::string_view message_, file_, what_, text_;
  size_t at_ = 0;
  uint64_t kind_ = 0, whole_ = 0;
};

void read_piece(std::string_view message, SentencePieceModel& model, std::string_view file) {
  const std::string where = fmt::format("piece {}", model.pieces.size());
  std::string_view piece;
  float score = 0;
  uint64_t type = 1;
  for (Fields field(message, file, where); field.next();) {
    if (field.number == 1) piece = field.bytes();
    if (field.number == 2) score = field.real();
    if (field.number == 3) type = field.integer();
  }
  if (model.pieces.size() == kMostTokens)
    corrupt(file, where, fmt::format("more than {} pieces", kMostTokens));
  if (piece.empty()) corrupt(file, where, "is empty");
  if (piece.size() > kLongestToken)
    corrupt(file, where,
            fmt::format("is {} long; at most {} are read", bytes(piece.size()), bytes(kLongestToken)));
  if (!valid_utf8(piece) || piece.find('\0') != std::string_view::npos)
    corrupt(file, where, fmt::format("'{}' is not UTF-8 text", printable(piece)));
  if (!std::isfinite(score)) corrupt(file, where, "has a score that is not a number");
  if (type < 1 || type > 6) corrupt(file, where, fmt::format("has the type {}; types are 1 to 6", type));
  model.pieces.emplace_back(piece);
  model.scores.push_back(score);
  model.types.push_back(static_cast<TokenType>(type));
}

void read_trainer(std::string_view message, SentencePieceModel& model, std::string_view file) {
  for (Fields field(message, file, "trainer_spec"); field.next();) {
    switch (field.number) {
      case 3:
        if (field.integer() < 1 || field.integer() > 4)
          corrupt(file, "trainer_spec",
                  fmt::format("the model type {} is unknown; types are 1 to 4", field.integer()));
        model.kind = static_cast<SentencePieceModel::Kind>(field.integer());
        break;
      case 24: model.whitespace_as_suffix = field.integer() != 0; break;
      case 35: model.byte_fallback = field.integer() != 0; break;
      case 45: model.unk_piece = field.bytes(); break;
      case 46: model.bos_piece = field.bytes(); break;
      case 47: model.eos_piece = field.bytes(); break;
      case 48: model.pad_piece = field.bytes(); break;
      default: break;
    }
  }
}

void read_normalizer(std::string_view message, SentencePieceModel& model, std::string_view file) {
  for (Fields field(message, file, "normalizer_spec"); field.next();) {
    switch (field.number) {
      case 1: model.normalization = field.bytes(); break;
      case 2: model.charsmap = field.bytes(); break;
      case 3: model.add_dummy_prefix = field.integer() != 0; break;
      case 4: model.remove_extra_whitespaces = field.integer() != 0; break;
      case 5: model.escape_whitespaces = field.integer() != 0; break;
      default: break;
    }
  }
}

// The charsmap is [u32 trie bytes][double-array trie of u32 units][NUL-terminated replacements]. The library
// follows the units without looking at their bounds, so every unit's reach is checked: from place p with
// offset o it may step to any of (p ^ o) ^ 0..255, and a unit with a leaf reads its value at p ^ o.
void check_charsmap(std::string_view charsmap, std::string_view file) {
  const auto bad = [&](const std::string& problem) {
    corrupt(file, "normalizer_spec.precompiled_charsmap", problem);
  };
  uint32_t trie_bytes = 0;
  if (charsmap.size() < sizeof trie_bytes) bad("is cut");
  std::memcpy(&trie_bytes, charsmap.data(), sizeof trie_bytes);
  if (trie_bytes > charsmap.size() - sizeof trie_bytes || trie_bytes % 4 != 0 || trie_bytes == 0)
    bad(fmt::format("says its trie takes {} of {}", bytes(trie_bytes), bytes(charsmap.size())));
  const size_t count = trie_bytes / 4;
  std::vector<uint32_t> units(count);
  std::memcpy(units.data(), charsmap.data() + 4, trie_bytes);
  const std::string_view replacements = charsmap.substr(4 + trie_bytes);
  if (replacements.empty() || replacements.back() != '\0') bad("its replacements do not end in a NUL");
  if (!valid_utf8(replacements)) bad("its replacements are not UTF-8");
  constexpr uint32_t kLeafFlag = 1u << 31;
  for (size_t place = 0; place < count; ++place) {
    const uint32_t unit = units[place];
    if ((unit & kLeafFlag) != 0) {  // a value: where a replacement starts
      if ((unit & ~kLeafFlag) >= replacements.size())
        bad(fmt::format("unit {} names the replacement at {}, but they end at {}", place, unit & ~kLeafFlag,
                        replacements.size()));
      continue;
    }
    const size_t target = place ^ (static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6));
    if ((target | 0xFF) >= count)
      bad(fmt::format("unit {} leads to unit {}, but there are {}", place, target, count));
    if ((unit >> 8 & 1) != 0 && (units[target] & kLeafFlag) == 0 && units[target] >= replacements.size())
      bad(fmt::format("unit {} has a value outside of the replacements", place));
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view model_bytes, std::string_view file) {
  SentencePieceModel model;
  int trainers = 0, normalizers = 0;
  for (Fields field(model_bytes, file, "model"); field.next();) {
    if (field.number == 1) read_piece(field.bytes(), model, file);
    if (field.number == 2 && ++trainers == 1) read_trainer(field.bytes(), model, file);
    if (field.number == 3 && ++normalizers == 1) read_normalizer(field.bytes(), model, file);
  }
  if (model.pieces.empty()) corrupt(file, "model", "has no pieces; is this a SentencePiece model?");
  if (trainers > 1 || normalizers > 1) corrupt(file, "model", "has two trainer or normalizer sections");
  std::unordered_set<std::string_view> seen;
  seen.reserve(model.pieces.size());
  std::bitset<256> byte_pieces;
  size_t unknowns = 0;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (!seen.insert(model.pieces[i]).second)
      corrupt(file, fmt::format("piece {}", i), fmt::format("'{}' stands twice", printable(model.pieces[i])));
    if (model.types[i] == TokenType::unknown) ++unknowns;
    if (model.types[i] != TokenType::byte) continue;
    const int byte = byte_of_spelling(model.pieces[i]);
    if (byte < 0)
      corrupt(file, fmt::format("piece {}", i),
              fmt::format("'{}' is a byte piece, which is spelled like <0x0A>", printable(model.pieces[i])));
    byte_pieces.set(static_cast<size_t>(byte));
  }
  if (unknowns != 1) corrupt(file, "model", fmt::format("has {} unknown pieces; it needs one", unknowns));
  if (model.byte_fallback && !byte_pieces.all())
    corrupt(file, "model",
            fmt::format("falls back to bytes but has {} of 256 byte pieces", byte_pieces.count()));
  if (!model.charsmap.empty()) check_charsmap(model.charsmap, file);
  return model;
}

}  // namespace retort
