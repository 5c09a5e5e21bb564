// Independent pieces of work over several threads, one forest a thread: LibTorch's inner threads are 1 in
// each.
#pragma once
#include <cstdint>
#include <functional>

#include <c10/core/GradMode.h>

#include "base/ordered_work.h"  // usable_threads()

namespace retort {

enum class Gradients { off, on };  // whether graphs are recorded in the workers

// What a thread of run_workers() has: inner threads of LibTorch's, and graphs or none. The thread's own
// settings come back behind it.
class WorkerScope {
 public:
  WorkerScope(int64_t inner, Gradients gradients);
  ~WorkerScope();
  WorkerScope(const WorkerScope&) = delete;
  WorkerScope& operator=(const WorkerScope&) = delete;

 private:
  const int inner_before_;
  const c10::AutoGradMode mode_;
};

// Calls work(i) for each i in [0, count), in order of i as threads become free; at most `threads` at a time.
// With fewer pieces than threads the rest of the threads is shared out as inner threads. The first exception
// is rethrown after all have ended.
void run_workers(int64_t threads, int64_t count, const std::function<void(int64_t index)>& work,
                 Gradients gradients = Gradients::off);
// The same for what is computed on a device, which has one piece at a time: all threads are inner threads,
// for what the CPU does for it.
void run_in_turn(int64_t threads, int64_t count, const std::function<void(int64_t index)>& work,
                 Gradients gradients = Gradients::off);

}  // namespace retort
