// Byte-pair merging over symbols (token ids), the same for every kind of vocabulary: the pair of lowest rank
// first, the leftmost of equals.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace retort {

struct Merged {
  uint32_t rank;
  int32_t symbol;
};

// (left, right) -> what they become. Open addressing, half full at most.
class MergeTable {
 public:
  static constexpr uint32_t kNever = UINT32_MAX;  // the rank of a pair that does not merge
  explicit MergeTable(size_t pairs = 0);
  bool insert(int32_t left, int32_t right,
              Merged merged);  // false when the pair is there already (it stays as it was)
  Merged find(int32_t left, int32_t right) const {
    const uint64_t key = pair(left, right);
    for (size_t at = place(key);; at = (at + 1) & mask_) {
      if (slots_[at].pair == key) return slots_[at].merged;
      if (slots_[at].pair == kEmpty) return {kNever, -1};
    }
  }
  size_t size() const { return size_; }

 private:
  struct Slot {
    uint64_t pair;
    Merged merged;
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;
  static uint64_t pair(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t place(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }
  void grow();
  std::vector<Slot> slots_;
  size_t mask_ = 0, size_ = 0;
  int shift_ = 0;
};

// Merges `symbols` in place until no pair merges. Negative symbols never merge. Short sequences are scanned,
// long ones (over 64 symbols) go through a heap: O(n log n), so that a megabyte of one character is no trap.
// Pairs of rank `limit` and above are left alone.
void merge_symbols(const MergeTable& table, std::vector<int32_t>& symbols,
                   uint32_t limit = MergeTable::kNever);

}  // namespace retort
