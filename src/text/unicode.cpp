#include "text/unicode.h"

#include <simdjson.h>
#include <utf8proc.h>

#include <cassert>
#include <cstdlib>
#include <map>
#include <memory>

namespace retort {
namespace {

constexpr uint32_t kReplacement = 0xFFFD;

bool white_space(uint32_t c) {  // Unicode's White_Space, which is the regular expressions' \s
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

uint16_t general_class(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return kUpper;
    case UTF8PROC_CATEGORY_LL: return kLower;
    case UTF8PROC_CATEGORY_LM: return kModifier;
    case UTF8PROC_CATEGORY_LO: return kOtherLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return kSymbol;
    default: return 0;
  }
}

// A character is inert under NFC when it starts (class 0), is its own composition, and composes with nothing
// before it. utf8proc_property_t does not say the last, so it is asked of the decomposition: a canonical
// second part of any composed character is collected first.
std::array<bool, 0x110000>* second_parts() {
  auto* second = new std::array<bool, 0x110000>{};
  for (uint32_t c = 0xA0; c < 0x110000; ++c) {
    if (c == 0xAC00) c = 0xD7A4;  // Hangul syllables compose by arithmetic; their parts are added below
    const auto* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
    if (property->decomp_type != 0 || property->decomp_seqindex == UINT16_MAX) continue;
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 8, UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 1; i < count && i < 8; ++i) (*second)[static_cast<size_t>(parts[i])] = true;
  }
  for (uint32_t c = 0x1161; c <= 0x11C2; ++c) (*second)[c] = true;  // Hangul vowels and finals
  return second;
}

bool nfc_inert(uint32_t c) {
  const auto* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  if (property->combining_class != 0) return false;
  if (property->decomp_type != 0 || property->decomp_seqindex == UINT16_MAX || (c >= 0xAC00 && c < 0xD7A4))
    return true;
  std::string text;
  append_utf8(text, c);
  return nfc(text) == text;  // singletons and composition exclusions change
}

// How many bytes from `at` form one character (0 when they do not), and how many belong to its longest valid
// beginning.
struct Span {
  uint32_t character, subpart;
};
Span utf8_span(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : uint8_t{0};
  };
  const uint8_t first = byte(0);
  if (first < 0x80) return {1, 1};
  uint8_t low = 0x80, high = 0xBF;
  uint32_t length = 0;
  if (first >= 0xC2 && first <= 0xDF) length = 2;
  if (first >= 0xE0 && first <= 0xEF) length = 3;
  if (first >= 0xF0 && first <= 0xF4) length = 4;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  for (uint32_t i = 1; i < length; ++i, low = 0x80, high = 0xBF)
    if (byte(i) < low || byte(i) > high) return {0, i};
  return {length, length == 0 ? 1 : length};
}

struct ByteAlphabet {
  std::array<uint16_t, 256> character;  // byte -> code point
  std::array<int16_t, 0x144> byte;      // code point -> byte, or -1
  ByteAlphabet() {
    byte.fill(-1);
    uint16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = itself ? static_cast<uint16_t>(b) : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};
const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

}  // namespace

CharacterTable::CharacterTable() {
  const std::unique_ptr<std::array<bool, 0x110000>> second(second_parts());
  std::map<std::basic_string<uint16_t>, uint16_t> pages;
  std::basic_string<uint16_t> page(256, 0);
  for (uint32_t high = 0; high < 0x1100; ++high) {
    for (uint32_t low = 0; low < 256; ++low) {
      const uint32_t c = high << 8 | low;
      uint16_t bits = general_class(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
      if (white_space(c)) bits |= kSpace;
      if (c == '\r' || c == '\n') bits |= kNewline;
      if ((*second)[c] || !nfc_inert(c)) bits |= kNfcChanges;
      page[low] = bits;
    }
    const auto [entry, fresh] = pages.try_emplace(page, static_cast<uint16_t>(pages.size()));
    if (fresh) entries_ += page;
    page_[high] = entry->second;
  }
}

const CharacterTable& character_table() {
  static const CharacterTable table;
  return table;
}

void append_utf8(std::string& text, uint32_t c) {
  const auto put = [&text](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xE0 | c >> 12);
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3F));
    }
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

bool valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string replace_invalid_utf8(std::string_view text, InvalidUtf8 rule) {
  std::string valid;
  valid.reserve(text.size() + 16);
  for (size_t at = 0; at < text.size();) {
    const Span span = utf8_span(text, at);
    if (span.character > 0) {
      valid.append(text, at, span.character);
      at += span.character;
    } else {
      append_utf8(valid, kReplacement);
      at += rule == InvalidUtf8::each_byte ? 1 : span.subpart;
    }
  }
  return valid;
}

std::string nfc(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw std::bad_alloc();  // the text is valid, so memory is the only thing that can fail
  std::string result(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
  std::free(composed);
  return result;
}

bool surely_nfc(std::string_view text) {
  const CharacterTable& table = character_table();
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    if (static_cast<uint8_t>(*at) < 0xCC) {  // below U+0300 all is stable; a lead byte below 0xCC says so
      at += static_cast<uint8_t>(*at) < 0x80 ? 1 : 2;
      continue;
    }
    const Decoded character = decode_utf8(at);
    if ((table[character.code_point] & kNfcChanges) != 0) return false;
    at += character.length;
  }
  return true;
}

std::string byte_level_spelling(std::string_view bytes) {
  std::string spelling;
  spelling.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(spelling, byte_alphabet().character[static_cast<uint8_t>(byte)]);
  return spelling;
}

bool byte_level_bytes(std::string_view spelling, std::string& bytes) {
  bytes.clear();
  if (!valid_utf8(spelling)) return false;
  for (size_t at = 0; at < spelling.size();) {
    const Decoded character = decode_utf8(spelling.data() + at);
    if (character.code_point >= byte_alphabet().byte.size() || byte_alphabet().byte[character.code_point] < 0)
      return false;
    bytes.push_back(static_cast<char>(byte_alphabet().byte[character.code_point]));
    at += character.length;
  }
  return true;
}

}  // namespace retort
