// Dropout by keyed draws (base/random.h), for any type of activations: number i of x is kept where 16 bits of
// the draw i / 4 are at least `threshold`, and then multiplied by `scale`. A thread has eight neighbours,
// which are two draws. The CPU's loop (ops/linear.cpp) is the definition.
#pragma once
#include "base/random.h"
#include "kernels/threads.h"

namespace retort {

struct DropoutJob {
  const void* in = nullptr;  // both at a multiple of 16
  void* out = nullptr;
  int64_t count = 0;
  uint64_t key = 0;        // Draws::key()
  uint32_t threshold = 0;  // of 65,536
  float scale = 1;
};

inline constexpr int kDropoutThreads = 256;

template <class Number, class Threads> HOST_DEVICE void drop(Threads& threads, const DropoutJob& job) {
  const auto step = threads.blocks() * kDropoutThreads;
  for (int64_t g = threads.block() * kDropoutThreads + threads.thread(); 8 * g < job.count; g += step) {
    const int64_t first = 8 * g;
    const int some = static_cast<int>(job.count - first < 8 ? job.count - first : 8);
    float values[8];
    load_some<Number>(threads, job.in, first, some, values);
    for (int half = 0; half < 2; ++half) {
      const uint64_t bits = mix_bits(job.key ^ mix_bits(static_cast<uint64_t>(2 * g + half)));
      for (int lane = 0; lane < 4; ++lane) {
        const bool kept = (bits >> (16 * lane) & 0xFFFF) >= job.threshold;
        float& value = values[4 * half + lane];
        value = kept ? value * job.scale : 0.0f;
      }
    }
    store_some<Number>(threads, job.out, first, some, values);
  }
}

}  // namespace retort
