#include "ops/memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "ops/large_blocks.h"
#include "ops/new_tensors.h"

namespace retort {

namespace {

constexpr size_t kLarge = size_t{64} << 10;  // bytes of a tensor

// Sanitizers watch the C library's pieces.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLargeBlocks = false;
#else
constexpr bool kLargeBlocks = true;
#endif

thread_local const NewTensors* asked = nullptr;  // of this thread, the last one

// Never destroyed: the last tensors go when the program ends.
LargeBlocks& large_blocks() {
  static auto* const blocks = new LargeBlocks;
  return *blocks;
}

void free_tensor(void* data) {
  if (!large_blocks().give_back(data)) c10::free_cpu(data);
}

class TensorMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (asked && asked->wants(bytes)) return asked->take(bytes);
    void* const data = bytes < kLarge || !kLargeBlocks ? c10::alloc_cpu(bytes) : large_blocks().take(bytes);
    return {data, data, &free_tensor, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_tensor; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

void use_tensor_memory() {
  static std::once_flag once;
  std::call_once(once, [] {
    static TensorMemory memory;
    c10::SetCPUAllocator(&memory, 1);  // above the default one
  });
}

}  // namespace

NewTensors::NewTensors(size_t least, Take take) : least_(least), take_(std::move(take)), before_(asked) {
  use_tensor_memory();
  asked = this;
}
NewTensors::NewTensors() : before_(asked) { asked = this; }
NewTensors::~NewTensors() { asked = before_; }

void keep_freed_memory() {
  if constexpr (kLargeBlocks) use_tensor_memory();
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // glibc's upper limit
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

void return_freed_memory() {
  ::malloc_trim(0);
  large_blocks().release();
}

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
