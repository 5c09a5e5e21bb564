// Tokens by expert and back (ops/route.h): a counting sort of slots, which keeps the order of equal ones;
// rows in that order; and the sum of a token's rows in the order of its experts. There is no addition of
// several threads to one place anywhere, so that bytes are the same in every order of threads.
#pragma once
#include "kernels/threads.h"

namespace retort {

inline constexpr int kExpertThreads = 256;
inline constexpr int kSortTile = 1024;  // slots that a block has in its memory at a time

struct SortJob {
  const int32_t* expert = nullptr;  // [slots], each below `experts`
  int32_t* before = nullptr;  // [experts, tiles()]: how many a tile has, then how many stand before them
  int32_t* starts = nullptr;  // [experts + 1]: where each expert's slots begin in the order
  int32_t* order = nullptr;   // [slots]: slots by expert, rising among those of one
  int32_t* places = nullptr;  // [slots]: where in `order` a slot stands
  int64_t slots = 0, experts = 0;
  HOST_DEVICE int64_t tiles() const { return (slots + kSortTile - 1) / kSortTile; }
};

inline constexpr int kSortShared = 4 * kSortTile;  // bytes, of the two that go through tiles
inline constexpr int kScanShared = 4 * kExpertThreads;

// Calls use(tile, first, count, experts of its slots) where the block's memory holds them.
template <class Threads, class Use>
HOST_DEVICE void each_tile(Threads& threads, const SortJob& job, Use use) {
  auto held = threads.template shared<int32_t>(0, kSortTile);
  for (int64_t tile = threads.block(); tile < job.tiles(); tile += threads.blocks()) {
    const int64_t first = tile * kSortTile, rest = job.slots - first;
    const int count = rest < kSortTile ? static_cast<int>(rest) : kSortTile;
    if (tile != threads.block()) threads.barrier();
    for (int i = threads.thread(); i < count; i += kExpertThreads) held.put(i, job.expert[first + i]);
    threads.barrier();
    use(tile, first, count, held);
  }
}

// Step one: how many slots of each tile an expert has. A thread counts for every 256th expert; all read the
// same number at a time.
template <class Threads> HOST_DEVICE void count_slots(Threads& threads, const SortJob& job) {
  each_tile(threads, job, [&](int64_t tile, int64_t, int count, auto held) {
    for (int64_t e = threads.thread(); e < job.experts; e += kExpertThreads) {
      int32_t mine = 0;
      for (int i = 0; i < count; ++i) mine += held.get(i) == e;
      job.before[e * job.tiles() + tile] = mine;
    }
  });
}

// Step two, by one block: counts become sums of all counts before them. A thread has a stretch of them.
template <class Threads> HOST_DEVICE void scan_counts(Threads& threads, const SortJob& job) {
  auto sums = threads.template shared<int32_t>(0, kExpertThreads);
  const int me = threads.thread();
  const int64_t all = job.experts * job.tiles(), stretch = (all + kExpertThreads - 1) / kExpertThreads;
  const int64_t begin = me * stretch < all ? me * stretch : all;
  const int64_t end = begin + stretch < all ? begin + stretch : all;
  int32_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += job.before[i];
  for (int apart = 1; apart < kExpertThreads; apart *= 2) {
    sums.put(me, sum);
    threads.barrier();
    if (me >= apart) sum += sums.get(me - apart);
    threads.barrier();
  }
  sums.put(me, sum);
  threads.barrier();
  int32_t so_far = me > 0 ? sums.get(me - 1) : 0;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t count = job.before[i];
    job.before[i] = so_far;
    if (i % job.tiles() == 0) job.starts[i / job.tiles()] = so_far;
    so_far += count;
  }
  if (me == 0) job.starts[job.experts] = static_cast<int32_t>(job.slots);
}

// Step three: each slot to its place.
template <class Threads> HOST_DEVICE void place_slots(Threads& threads, const SortJob& job) {
  each_tile(threads, job, [&](int64_t tile, int64_t first, int count, auto held) {
    for (int64_t e = threads.thread(); e < job.experts; e += kExpertThreads) {
      int32_t place = job.before[e * job.tiles() + tile];
      for (int i = 0; i < count; ++i) {
        if (held.get(i) != e) continue;
        job.order[place] = static_cast<int32_t>(first + i);
        job.places[first + i] = place++;
      }
    }
  });
}

struct RowsJob {
  int64_t tokens = 0, each = 0, width = 0;  // `each` slots a token, rows of `width` numbers
  const int32_t* order = nullptr;           // tokens to experts: of SortJob
  const void* x = nullptr;                  // [tokens, width]
  const int32_t *expert = nullptr, *places = nullptr, *starts = nullptr;  // experts to tokens: of SortJob
  const void* const* parts = nullptr;  // [experts]: an expert's rows, in order; null where they are zero
  void* out = nullptr;                 // [tokens * each, width], or [tokens, width]
};

// Row `order[i]` / each of x becomes row i.
template <class Number, class Threads>
HOST_DEVICE void rows_to_experts(Threads& threads, const RowsJob& job) {
  for (int64_t row = threads.block(); row < job.tokens * job.each; row += threads.blocks()) {
    const int64_t from = job.order[row] / job.each * job.width;
    each_eight(threads, job.width, [&](int64_t i, int some) {
      copy_some<Number>(threads, job.x, from + i, job.out, row * job.width + i, some);
    });
  }
}

// The sum of a token's rows, fp32, beginning at zero, in the order of its slots.
template <class Number, class Threads> HOST_DEVICE void sum_of_experts(Threads& threads, const RowsJob& job) {
  for (int64_t token = threads.block(); token < job.tokens; token += threads.blocks())
    each_eight(threads, job.width, [&](int64_t i, int some) {
      float sum[8] = {}, numbers[8];
      for (int64_t slot = token * job.each; slot < (token + 1) * job.each; ++slot) {
        const int32_t e = job.expert[slot];
        if (!job.parts[e]) continue;
        load_some<Number>(threads, job.parts[e], (job.places[slot] - job.starts[e]) * job.width + i, some,
                          numbers);
        for (int j = 0; j < 8; ++j) sum[j] += numbers[j];
      }
      store_some<Number>(threads, job.out, token * job.width + i, some, sum);
    });
}

}  // namespace retort
