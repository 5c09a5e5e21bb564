// The threads inside one operation: for one long row of tokens, and for generation, where a product takes
// tens of microseconds and waking a sleeping thread as long. Helpers spin for a moment after each job, then
// sleep.
#pragma once
#include <cstdint>
#include <functional>

namespace retort {

// How many threads an operation called here may use: LibTorch's inner threads, 1 inside another team's work.
int64_t team_size();

// Calls work(i) for each i in [0, pieces) on team_size() threads, this one among them; pieces < 2^20. The
// first exception is rethrown.
void on_team(int64_t pieces, const std::function<void(int64_t piece)>& work);

// Calls work(begin, end) for runs that make up [0, count), each of `grain` or more where there are so many:
// one a thread. In this thread alone where that is one run.
void over_range(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& work);

}  // namespace retort
