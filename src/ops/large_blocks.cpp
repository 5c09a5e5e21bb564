#include "ops/large_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <new>

namespace retort {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kColour = 576;  // beyond whole pages: neighbours do not begin at the same place of a page,
                                 // which would have their rows share a few sets of the caches
constexpr size_t kRegion = size_t{1} << 30;
constexpr size_t kLeastRest = size_t{8} << 20;  // bytes that may always stay
constexpr int kLookedAt = 32;                   // blocks that are large enough

size_t rounded(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage + kColour; }

}  // namespace

void* LargeBlocks::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto size = rounded(bytes);
  auto found = choose(size);
  if (found == free_.end()) found = new_region(size);
  auto* const begin = found->first;
  auto [whole, resident] = found->second;
  erase(found);
  auto taken = size;
  if (whole - size >= kPage) insert(begin + size, {whole - size, std::min(whole - size, resident)});
  else taken = whole;
  used_.emplace(begin, taken);
  // Its pages count from now on; those of the rest may have been the ones that were in memory.
  const auto before = resident, after = taken + (taken < whole ? std::min(whole - taken, resident) : 0);
  usage_.resident += after - std::min(after, before);
  usage_.live += taken;
  usage_.most = std::max(usage_.most, usage_.live);
  keep_to_limit();
  return begin;
}

bool LargeBlocks::give_back(void* block) {
  auto* begin = static_cast<char*>(block);
  if (!holds(begin)) return false;
  const std::lock_guard lock(mutex_);
  const auto found = used_.find(begin);
  if (found == used_.end()) return false;
  Free freed{found->second, found->second};
  usage_.live -= found->second;
  used_.erase(found);
  const auto join = [&](FreeBlocks::iterator neighbour) {
    freed.size += neighbour->second.size;
    freed.resident += neighbour->second.resident;
    erase(neighbour);
  };
  if (const auto next = free_.find(begin + freed.size); next != free_.end()) join(next);
  if (const auto after = free_.lower_bound(begin); after != free_.begin())
    if (const auto before = std::prev(after); before->first + before->second.size == begin) {
      begin = before->first;
      join(before);
    }
  insert(begin, freed);
  return true;
}

void LargeBlocks::release() {
  const std::lock_guard lock(mutex_);
  for (auto block = free_.begin(); block != free_.end(); ++block) release(block);
}

LargeBlocks::Usage LargeBlocks::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

// Of the smallest blocks that are large enough, the one that needs the fewest new pages.
LargeBlocks::FreeBlocks::iterator LargeBlocks::choose(size_t size) {
  auto best = free_.end();
  size_t fewest = 0;
  int looked_at = 0;
  for (auto it = by_size_.lower_bound({size, nullptr}); it != by_size_.end() && looked_at < kLookedAt;
       ++it, ++looked_at) {
    const auto block = free_.find(it->second);
    const auto fresh = size - std::min(size, block->second.resident);
    if (best == free_.end() || fresh < fewest) best = block, fewest = fresh;
    if (fewest == 0) break;
  }
  return best;
}

LargeBlocks::FreeBlocks::iterator LargeBlocks::insert(char* begin, Free block) {
  by_size_.emplace(block.size, begin);
  return free_.emplace(begin, block).first;
}

void LargeBlocks::erase(FreeBlocks::iterator block) {
  by_size_.erase({block->second.size, block->first});
  free_.erase(block);
}

// Addresses alone: pages come when they are written to.
LargeBlocks::FreeBlocks::iterator LargeBlocks::new_region(size_t size) {
  const auto count = region_count_.load();
  if (count == kRegions) throw std::bad_alloc();
  const auto whole_pages = (size + kPage - 1) / kPage * kPage;
  // They grow with what is in use, so that their number is enough; a limit on addresses gets halves.
  auto wanted = std::max({kRegion, whole_pages, usage_.live / 8 / kPage * kPage});
  while (true) {
    void* const begin =
        ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin != MAP_FAILED) {
      regions_[count].begin = static_cast<char*>(begin);
      regions_[count].size = wanted;
      region_count_ = count + 1;
      return insert(static_cast<char*>(begin), {wanted, 0});
    }
    if (wanted == whole_pages) throw std::bad_alloc();
    wanted = std::max(whole_pages, wanted / 2 / kPage * kPage);
  }
}

void LargeBlocks::release(FreeBlocks::iterator block) {
  auto& [size, resident] = block->second;
  if (resident == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(block->first);
  const auto begin = (address + kPage - 1) / kPage * kPage, end = (address + size) / kPage * kPage;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  usage_.resident -= std::min(usage_.resident, resident);
  resident = 0;
}

// What goes is often faulted in again by the next step, so each time a quarter of it may stay from then on.
void LargeBlocks::keep_to_limit() {
  const auto limit = usage_.most + std::min(usage_.most / 20 + allowance_, std::max(usage_.most, kLeastRest));
  const auto before = usage_.resident;
  if (before <= limit) return;
  for (auto it = by_size_.rbegin(); it != by_size_.rend() && usage_.resident > limit; ++it)
    release(free_.find(it->second));
  allowance_ = std::min(allowance_ + (before - usage_.resident) / 4, usage_.most);
}

bool LargeBlocks::holds(const char* block) const {
  const auto count = region_count_.load();
  for (size_t i = 0; i < count; ++i) {
    const char* const begin = regions_[i].begin;
    if (block >= begin && block < begin + regions_[i].size) return true;
  }
  return false;
}

}  // namespace retort
