#include "data/words.h"

#include "base/random.h"
#include "text/scripts.h"

namespace retort {
namespace {

class Words {
 public:
  std::vector<uint64_t> all;

  void add(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const auto lead = static_cast<unsigned char>(text[i]);
      if (lead < 0x80) {
        const auto byte = static_cast<unsigned char>(lead >= 'A' && lead <= 'Z' ? lead - 'A' + 'a' : lead);
        if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')) put(byte);
        else end();
        ++i;
        continue;
      }
      const auto character = next_character(text, i);
      if (written_without_spaces(character.code)) {
        end();
        for (const char c : character.bytes) put(static_cast<unsigned char>(c));
        end();
      } else if (is_punctuation(character.code)) {
        end();
      } else {
        for (const char c : character.bytes) put(static_cast<unsigned char>(c));
      }
    }
    end();
  }

 private:
  struct Character {
    uint32_t code;
    std::string_view bytes;
  };
  // A lone byte of what is no UTF-8 stands for itself.
  static Character next_character(std::string_view text, size_t& i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    uint32_t code = length == 4 ? lead & 0x07 : length == 3 ? lead & 0x0F : length == 2 ? lead & 0x1F : lead;
    const auto bytes = text.substr(i, length);
    for (size_t k = 1; k < bytes.size(); ++k)
      code = code << 6 | (static_cast<unsigned char>(bytes[k]) & 0x3F);
    i += bytes.size();
    return {code, bytes};
  }
  // Quotes, dashes, ideographic and full-width marks.
  static bool is_punctuation(uint32_t c) {
    return (c >= 0x2000 && c <= 0x206F) || (c >= 0x3000 && c <= 0x3004) || (c >= 0x3008 && c <= 0x3020) ||
           (c >= 0xFE10 && c <= 0xFE6F) || (c >= 0xFF01 && c <= 0xFF0F) || (c >= 0xFF1A && c <= 0xFF20) ||
           (c >= 0xFF3B && c <= 0xFF40) || (c >= 0xFF5B && c <= 0xFF65) || (c >= 0xA0 && c <= 0xBF) ||
           c == 0x60C || c == 0x61B || c == 0x61F || c == 0x6D4 || c == 0x964;
  }
  void put(unsigned char byte) {
    word_ = mix_bits(word_ ^ (byte + 1u));
    inside_ = true;
  }
  void end() {
    if (inside_) all.push_back(word_);
    word_ = 0, inside_ = false;
  }
  uint64_t word_ = 0;
  bool inside_ = false;
};

}  // namespace

std::vector<uint64_t> words_of(const Record& record) {
  Words words;
  for (const auto& message : record.messages)
    if (message.role != "system") words.add(message.content);
  words.add(record.text);
  return std::move(words.all);
}

}  // namespace retort
