#include "ops/memory.h"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace retort {

void keep_freed_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // glibc's upper limit
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

void return_freed_memory() { ::malloc_trim(0); }

double memory_speed(int64_t threads) {
  constexpr size_t kWords = size_t{32} << 20;  // more than any cache holds
  const std::vector<uint64_t> words(kWords, 1);
  std::atomic<uint64_t> kept = 0;  // so that nothing is left out
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> pool;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t t = 0; t < threads; ++t)
      pool.emplace_back([&, t] {
        const auto begin = kWords * static_cast<size_t>(t) / static_cast<size_t>(threads),
                   end = kWords * static_cast<size_t>(t + 1) / static_cast<size_t>(threads);
        std::array<uint64_t, 8> sums{};
        for (size_t i = begin; i + sums.size() <= end; i += sums.size())
          for (size_t j = 0; j < sums.size(); ++j) sums[j] += words[i + j];
        kept += std::accumulate(sums.begin(), sums.end(), uint64_t{0});
      });
    for (auto& thread : pool) thread.join();
    best =
        std::max(best, static_cast<double>(kWords * sizeof(uint64_t)) * 1e-9 /
                           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace retort
