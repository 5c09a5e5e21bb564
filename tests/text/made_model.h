// Small SentencePiece models: protocol buffers by hand.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace retort {

inline std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
inline std::string whole(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
inline std::string text(uint32_t field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}
inline std::string real(uint32_t field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(field << 3 | 5) + bytes;
}
inline std::string piece(const std::string& spelling, float score = 0, uint64_t type = 1) {
  return text(1, text(1, spelling) + real(2, score) + whole(3, type));
}

struct MadeModel {
  std::vector<std::string> pieces = {piece("<unk>", 0, 2), piece("a", -1), piece("b", -2)};
  uint64_t kind = 2;
  std::string charsmap = {};
  bool byte_fallback = false;
  std::string bytes() const {
    std::string model;
    for (const auto& one : pieces) model += one;
    return model + text(2, whole(3, kind) + whole(35, byte_fallback)) +
           text(3, text(2, charsmap) + whole(4, 0));
  }
};

}  // namespace retort
