// Pieces of texts, looked for in files of any kind and size.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace retort {

// First add() for every text, then count() for every text again, then close(); then finds_any().
class TextSearch {
 public:
  static constexpr size_t kPiece = 24;  // bytes
  // Some pieces of TEXT that stand the same in plain text, JSON and HTML. `own`: they are looked for where no
  // other text has them, since instructions and templates are nobody's own.
  void add(std::string_view text, bool own);
  void count(std::string_view text);
  // Pieces that `known` has are not looked for.
  void close(std::string_view known);
  size_t pieces() const { return pieces_.size(); }
  bool finds_any(std::string_view bytes) const;

 private:
  struct Piece {
    std::string text;
    bool own = true;
    int64_t texts = 0;  // that have it
  };
  void make_index();
  // Calls met(number of the piece) where one stands in BYTES; until it returns true.
  template <class Met> bool meet(std::string_view bytes, Met&& met) const;

  std::unordered_map<std::string, bool> added_;  // piece -> own
  std::vector<Piece> pieces_;
  std::vector<bool> filter_;                         // by the first bytes of a piece
  std::unordered_multimap<uint64_t, size_t> index_;  // by the same: its number
};

}  // namespace retort
