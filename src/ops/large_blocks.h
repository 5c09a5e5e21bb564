// Memory for large tensors, of all threads together. glibc 2.36 asks for an aligned piece by looking for one
// that is larger, so that a hole never fits a tensor of the size that left it, and each of its arenas keeps
// holes of its own: a training that recomputes held twice what its tensors needed. Here what is free lies in
// one list, and neighbours become one piece again. Pages go back to the system when more are held
// than were ever in use together: first a twentieth and 8 MiB more, later up to twice as many. A fixed
// twentieth had each step fault in again what the one before gave back, which took 7 % of its time.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace retort {

class LargeBlocks {
 public:
  // 64-byte aligned; std::bad_alloc where the system has none.
  void* take(size_t bytes);
  // False: not one of these.
  bool give_back(void* block);
  // All pages that nobody uses, back to the system.
  void release();

  // Bytes: in use; in use together at most; with pages in memory, counted too high rather than too low.
  struct Usage {
    size_t live = 0, most = 0, resident = 0;
  };
  Usage usage() const;

 private:
  struct Free {
    size_t size, resident;
  };
  using FreeBlocks = std::map<char*, Free>;

  FreeBlocks::iterator choose(size_t size);
  FreeBlocks::iterator insert(char* begin, Free block);
  void erase(FreeBlocks::iterator block);
  FreeBlocks::iterator new_region(size_t size);
  void release(FreeBlocks::iterator block);
  void keep_to_limit();
  bool holds(const char* block) const;

  static constexpr size_t kRegions = 256;
  struct Region {
    std::atomic<char*> begin = nullptr;
    std::atomic<size_t> size = 0;
  };
  mutable std::mutex mutex_;
  Region regions_[kRegions];  // read without the lock: most of what is given back is none of these
  std::atomic<size_t> region_count_ = 0;
  FreeBlocks free_;
  std::set<std::pair<size_t, char*>> by_size_;  // the same blocks
  std::unordered_map<char*, size_t> used_;
  Usage usage_;
  size_t allowance_ = size_t{8} << 20;  // of pages beyond what was in use together
};

}  // namespace retort
