// Pieces of texts, looked for in files of any kind and size.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace retort {

class TextSearch {
 public:
  static constexpr size_t kPiece = 24;  // bytes
  // Some pieces of TEXT that stand the same in plain text, JSON and HTML. `once`: they are looked for where
  // no other text has them, since instructions and templates are nobody's own.
  void add(std::string_view text, bool once);
  // Afterwards nothing is added. Pieces that TEXT has are not looked for.
  void close(std::string_view text);
  size_t pieces() const { return sought_.size(); }
  bool finds_any(std::string_view bytes) const;

 private:
  struct Seen {
    int64_t times = 0;
    bool once = true;
  };
  std::unordered_map<std::string, Seen> seen_;
  std::vector<bool> filter_;                               // by the first bytes of a piece
  std::unordered_multimap<uint64_t, std::string> sought_;  // by the same
};

}  // namespace retort
