#include "base/ordered_work.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace retort {

int64_t usable_threads(int64_t wanted) {
  if (wanted > 0) return wanted;
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  return std::max(1, CPU_COUNT(&mask));
}

OrderedWork::OrderedWork(int64_t threads, size_t most_pending)
    : most_pending_(std::max<size_t>(1, most_pending)) {
  if (threads <= 1) return;
  for (int64_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

OrderedWork::~OrderedWork() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    waiting_.clear();
  }
  wanted_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void OrderedWork::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wanted_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    const auto slot = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    try {
      slot->later = slot->piece();
    } catch (...) { slot->failure = std::current_exception(); }
    slot->piece = nullptr;
    lock.lock();
    slot->done = true;
    done_.notify_one();
  }
}

void OrderedWork::add(Piece piece) {
  if (threads_.empty()) {
    if (const auto later = piece()) later();
    return;
  }
  while (pending_.size() >= most_pending_) take_first();
  auto slot = std::make_shared<Slot>();
  slot->piece = std::move(piece);
  pending_.push_back(slot);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(slot));
  }
  wanted_.notify_one();
}

void OrderedWork::take_first() {
  const auto slot = std::move(pending_.front());
  pending_.pop_front();
  {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return slot->done; });
  }
  if (slot->failure) std::rethrow_exception(slot->failure);
  if (slot->later) slot->later();
}

void OrderedWork::finish() {
  while (!pending_.empty()) take_first();
}

}  // namespace retort
