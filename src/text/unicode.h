// UTF-8 and the character classes that pre-tokenizers ask for (Unicode 15 through utf8proc; White_Space as in
// the standard).
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace retort {

// One bit a class, so that a scanner tests a set of them with one AND.
enum CharacterClass : uint16_t {
  kUpper = 1,          // Lu, Lt
  kLower = 2,          // Ll
  kModifier = 4,       // Lm
  kOtherLetter = 8,    // Lo
  kMark = 16,          // Mn, Mc, Me
  kNumber = 32,        // Nd, Nl, No
  kPunctuation = 64,   // P*
  kSymbol = 128,       // S*
  kSpace = 256,        // White_Space
  kNewline = 512,      // \r and \n
  kNfcChanges = 1024,  // may change, or change its neighbours, under NFC
  kLetter = kUpper | kLower | kModifier | kOtherLetter,
};

// Two levels: 4352 pages of 256 code points, equal pages stored once (about 40 KiB in all).
class CharacterTable {
 public:
  CharacterTable();
  uint16_t ascii(uint8_t byte) const { return entries_[byte]; }  // page 0 is stored first
  uint16_t operator[](uint32_t code_point) const {
    return entries_[(static_cast<uint32_t>(page_[code_point >> 8]) << 8) | (code_point & 0xFF)];
  }

 private:
  std::array<uint16_t, 0x1100> page_;
  std::basic_string<uint16_t> entries_;
};
const CharacterTable& character_table();  // built once, about 10 ms

struct Decoded {
  uint32_t code_point;
  uint32_t length;  // bytes
};
// The character at `at`; `text` must be valid UTF-8 (replace_invalid_utf8 makes it so) and `at` a boundary
// inside it.
inline Decoded decode_utf8(const char* at) {
  const auto byte = [at](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(at[i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}
inline uint32_t utf8_length(char first) {
  const auto byte = static_cast<uint8_t>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
void append_utf8(std::string& text, uint32_t code_point);

bool valid_utf8(std::string_view text);

// What becomes of bytes that are not UTF-8. Most references take only valid text, so that their caller
// replaces first: `maximal_subparts` is what Unicode recommends and Python's errors="replace" does (one
// U+FFFD for a cut sequence). SentencePiece reads bytes itself and writes one U+FFFD for each bad byte.
enum class InvalidUtf8 { maximal_subparts, each_byte };
std::string replace_invalid_utf8(std::string_view text, InvalidUtf8 rule);

// NFC; `text` must be valid UTF-8.
std::string nfc(std::string_view text);
bool surely_nfc(std::string_view text);  // a quick check: false means "look closer"

// GPT-2's printable alphabet for bytes: '!'..'~' and most of Latin-1 stand for themselves, the other 68
// become U+0100 and up.
std::string byte_level_spelling(std::string_view bytes);
// The bytes that a byte-level spelling stands for; false when a character is not of the alphabet.
bool byte_level_bytes(std::string_view spelling, std::string& bytes);

}  // namespace retort
