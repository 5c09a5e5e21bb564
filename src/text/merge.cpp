#include "text/merge.h"

#include <algorithm>
#include <bit>
#include <queue>

namespace retort {
namespace {

constexpr size_t kShort = 64;

void merge_short(const MergeTable& table, std::vector<int32_t>& symbols, uint32_t limit) {
  Merged next[kShort];  // next[i]: what symbols i and i+1 become
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) next[i] = table.find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (next[i].rank < next[best].rank) best = i;
    if (next[best].rank >= limit) break;
    symbols[best] = next[best].symbol;
    std::copy(symbols.begin() + static_cast<ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<ptrdiff_t>(count),
              symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(next + best + 1, next + count - 1, next + best);
    --count;
    if (best > 0) next[best - 1] = table.find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) next[best] = table.find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(count);
}

void merge_long(const MergeTable& table, std::vector<int32_t>& symbols, uint32_t limit) {
  struct Candidate {
    uint64_t order;  // rank, then place
    int32_t left, right;
    bool operator<(const Candidate& other) const { return order > other.order; }
  };
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> previous(count), following(count);
  std::vector<Candidate> storage;
  storage.reserve(count);
  std::priority_queue<Candidate> heap(std::less<Candidate>(), std::move(storage));
  const auto offer = [&](uint32_t at) {
    const uint32_t right = following[at];
    if (right >= count) return;
    const Merged merged = table.find(symbols[at], symbols[right]);
    if (merged.rank < limit)
      heap.push({static_cast<uint64_t>(merged.rank) << 32 | at, symbols[at], symbols[right]});
  };
  for (uint32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;  // wraps to a place beyond the end for the first
    following[i] = i + 1;
  }
  for (uint32_t i = 0; i < count; ++i) offer(i);
  constexpr int32_t kGone = INT32_MIN;
  while (!heap.empty()) {
    const Candidate candidate = heap.top();
    heap.pop();
    const auto at = static_cast<uint32_t>(candidate.order);
    const uint32_t right = following[at];
    if (symbols[at] != candidate.left || right >= count || symbols[right] != candidate.right)
      continue;  // overtaken by another merge
    symbols[at] = table.find(candidate.left, candidate.right).symbol;
    symbols[right] = kGone;
    following[at] = following[right];
    if (following[right] < count) previous[following[right]] = at;
    if (previous[at] < count) offer(previous[at]);
    offer(at);
  }
  std::erase(symbols, kGone);
}

}  // namespace

MergeTable::MergeTable(size_t pairs) {
  const size_t places = std::bit_ceil(std::max<size_t>(2 * pairs, 16));
  slots_.assign(places, {kEmpty, {kNever, -1}});
  mask_ = places - 1;
  shift_ = 64 - std::countr_zero(places);
}

void MergeTable::grow() {
  MergeTable larger(slots_.size());
  for (const Slot& slot : slots_)
    if (slot.pair != kEmpty)
      larger.insert(static_cast<int32_t>(slot.pair >> 32), static_cast<int32_t>(slot.pair), slot.merged);
  *this = std::move(larger);
}

bool MergeTable::insert(int32_t left, int32_t right, Merged merged) {
  if (2 * (size_ + 1) > slots_.size()) grow();
  const uint64_t key = pair(left, right);
  size_t at = place(key);
  for (; slots_[at].pair != kEmpty; at = (at + 1) & mask_)
    if (slots_[at].pair == key) return false;
  slots_[at] = {key, merged};
  ++size_;
  return true;
}

void merge_symbols(const MergeTable& table, std::vector<int32_t>& symbols, uint32_t limit) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) merge_short(table, symbols, limit);
  else merge_long(table, symbols, limit);
}

}  // namespace retort
