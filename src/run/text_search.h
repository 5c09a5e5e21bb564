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
  static constexpr size_t kMostPieces = size_t{1} << 18;
  enum class Pieces { sampled, all };
  // Of the texts' sampled pieces at most `most` are looked for: which, their hashes say, so that texts that
  // are added late have as many of them as those before.
  explicit TextSearch(size_t most = kMostPieces) : most_pieces_(most) {}
  // Some pieces of TEXT that stand the same in plain text, JSON and HTML. `own`: they are looked for where no
  // other text has them, since instructions and templates are nobody's own.
  void add(std::string_view text, bool own, Pieces pieces = Pieces::sampled);
  void count(std::string_view text);
  // Pieces that `known` has are not looked for.
  void close(std::string_view known);
  size_t pieces() const { return pieces_.size(); }
  double share() const;  // of the sampled pieces those that are looked for: 1 where all are
  bool finds_any(std::string_view bytes) const;

 private:
  struct Piece {
    std::string text;
    bool own = true;
    int64_t texts = 0;  // that have it
  };
  struct Added {
    bool own = true, sampled = true;
  };
  void keep_to_most();
  void make_index();
  // Calls met(number of the piece) where one stands in BYTES; until it returns true.
  template <class Met> bool meet(std::string_view bytes, Met&& met) const;

  const size_t most_pieces_;
  std::unordered_map<std::string, Added> added_;
  size_t sampled_ = 0;           // of them
  uint64_t last_ = ~uint64_t{};  // of the hashes of sampled pieces the largest that is kept
  std::vector<Piece> pieces_;
  std::vector<bool> filter_;                         // by the first bytes of a piece
  std::unordered_multimap<uint64_t, size_t> index_;  // by the same: its number
};

}  // namespace retort
