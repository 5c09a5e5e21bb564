// AdamW over all trainables in one launch: a block of threads updates a chunk of one of them, four neighbours
// a thread, and says whether all that is new there is finite.
#pragma once
#include "kernels/adamw.h"
#include "kernels/threads.h"

namespace retort {

struct AdamwSlot {  // a trainable; all at multiples of 16
  float* weights = nullptr;
  const float* sums = nullptr;  // null: a gradient of zero
  float *first = nullptr, *second = nullptr;
  int64_t count = 0;
  UpdateScalars scalars;
};

inline constexpr int kAdamwThreads = 256;
inline constexpr int64_t kAdamwChunk = 4096;

struct AdamwChunk {
  int64_t slot = 0, begin = 0;  // begin: a multiple of kAdamwChunk
};

struct AdamwJob {
  const AdamwSlot* slots = nullptr;
  const AdamwChunk* chunks = nullptr;
  int64_t chunk_count = 0;
  uint8_t* finite = nullptr;  // of each chunk
};

struct Both {
  HOST_DEVICE uint32_t operator()(uint32_t a, uint32_t b) const { return a & b; }
};

HOST_DEVICE inline bool is_finite(float value) { return (bits_of(value) & 0x7F800000u) != 0x7F800000u; }

// The shared memory is a word for each thread.
template <class Threads> HOST_DEVICE void adamw(Threads& threads, const AdamwJob& job) {
  auto scratch = threads.template shared<uint32_t>(0, threads.threads());
  for (int64_t c = threads.block(); c < job.chunk_count; c += threads.blocks()) {
    const AdamwChunk chunk = job.chunks[c];
    const AdamwSlot slot = job.slots[chunk.slot];
    const int64_t end = slot.count - chunk.begin < kAdamwChunk ? slot.count : chunk.begin + kAdamwChunk;
    bool finite = true;
    for (int64_t i = chunk.begin + 4 * threads.thread(); i < end; i += 4 * threads.threads()) {
      const int some = static_cast<int>(end - i < 4 ? end - i : 4);
      float weights[4] = {}, sums[4] = {}, first[4] = {}, second[4] = {};
      if (some == 4) {
        load4(threads, slot.weights + i, weights);
        load4(threads, slot.first + i, first);
        load4(threads, slot.second + i, second);
        if (slot.sums) load4(threads, slot.sums + i, sums);
      } else {
        for (int j = 0; j < some; ++j) {
          weights[j] = slot.weights[i + j], first[j] = slot.first[i + j], second[j] = slot.second[i + j];
          if (slot.sums) sums[j] = slot.sums[i + j];
        }
      }
      for (int j = 0; j < 4; ++j) {
        const auto next = adamw_number({weights[j], first[j], second[j]}, sums[j], slot.scalars);
        weights[j] = next.weight, first[j] = next.first, second[j] = next.second;
        finite = finite && (j >= some || (is_finite(next.weight) && is_finite(next.second)));
      }
      if (some == 4) {
        store4(threads, slot.weights + i, weights);
        store4(threads, slot.first + i, first);
        store4(threads, slot.second + i, second);
      } else {
        for (int j = 0; j < some; ++j)
          slot.weights[i + j] = weights[j], slot.first[i + j] = first[j], slot.second[i + j] = second[j];
      }
    }
    const uint32_t all = combine_over_block(threads, scratch, finite ? 1u : 0u, Both());
    if (threads.thread() == 0) job.finite[c] = static_cast<uint8_t>(all);
  }
}

}  // namespace retort
