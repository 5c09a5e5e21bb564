#include "ops/workers.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace retort {

WorkerScope::WorkerScope(int64_t inner, Gradients gradients)
    : inner_before_(at::get_num_threads()), mode_(gradients == Gradients::on) {
  at::set_num_threads(static_cast<int>(inner));  // per calling thread
}

WorkerScope::~WorkerScope() { at::set_num_threads(inner_before_); }

void run_workers(int64_t threads, int64_t count, const std::function<void(int64_t)>& work,
                 Gradients gradients) {
  if (count <= 0) return;
  const auto workers = std::clamp<int64_t>(threads, 1, count);
  const auto inner = std::max<int64_t>(1, threads / workers);
  std::atomic<int64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr failure;
  std::mutex failing;
  const auto loop = [&] {
    const WorkerScope scope(inner, gradients);
    for (int64_t i = next++; i < count && !failed; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(failing);
        if (!failure) failure = std::current_exception();
        failed = true;
      }
    }
  };
  std::vector<std::thread> pool;
  for (int64_t i = 0; i < workers; ++i) pool.emplace_back(loop);
  for (auto& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

void run_in_turn(int64_t threads, int64_t count, const std::function<void(int64_t)>& work,
                 Gradients gradients) {
  const auto all = [&](int64_t) {
    for (int64_t i = 0; i < count; ++i) work(i);
  };
  run_workers(threads, std::min<int64_t>(count, 1), all, gradients);
}

}  // namespace retort
