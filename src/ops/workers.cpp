#include "ops/workers.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace retort {

void run_workers(int64_t threads, int64_t count, const std::function<void(int64_t)>& work,
                 Gradients gradients) {
  if (count <= 0) return;
  const auto workers = std::clamp<int64_t>(threads, 1, count);
  const auto inner = static_cast<int>(std::max<int64_t>(1, threads / workers));
  std::atomic<int64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr failure;
  std::mutex failing;
  const auto loop = [&] {
    at::set_num_threads(inner);  // per calling thread
    const at::AutoGradMode mode(gradients == Gradients::on);
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
