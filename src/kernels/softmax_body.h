// What cross-entropy does with a chunk of the head's logits, row by row and in place: log sum exp, and the
// softmax times the row's weight, which is the gradient but for the labels. A row is read twice and written
// once; a block of threads has a row, a thread every 256th four of it.
#pragma once
#include <cmath>

#include "kernels/threads.h"

namespace retort {

inline constexpr int kSoftmaxThreads = 256;

// sum of exp(z - largest) over what was seen; a sum of 0: nothing was.
struct ExpSum {
  float largest = 0, sum = 0;
};
HOST_DEVICE inline ExpSum plus_exp(const ExpSum& all, float z) {
  if (all.sum == 0) return {z, 1};
  if (z > all.largest) return {z, all.sum * std::exp(all.largest - z) + 1};
  return {all.largest, all.sum + std::exp(z - all.largest)};
}
struct Together {
  HOST_DEVICE ExpSum operator()(const ExpSum& a, const ExpSum& b) const {
    if (a.sum == 0) return b;
    if (b.sum == 0) return a;
    if (b.largest > a.largest) return {b.largest, a.sum * std::exp(a.largest - b.largest) + b.sum};
    return {a.largest, a.sum + b.sum * std::exp(b.largest - a.largest)};
  }
};
HOST_DEVICE inline float log_of(const ExpSum& all) { return all.largest + std::log(all.sum); }

struct SoftmaxJob {
  float* logits = nullptr;  // [rows, columns]
  int64_t rows = 0, columns = 0;
  float* log_sums = nullptr;       // [rows]
  const float* weights = nullptr;  // [rows]; null: logits stay as they are
};

// The shared memory is an ExpSum for each thread.
inline constexpr int kSoftmaxShared = kSoftmaxThreads * static_cast<int>(sizeof(ExpSum));

// Calls use(i, some) for this thread's fours of a row, four or what is left of it at its end. Rows whose
// length is no multiple of 4 begin anywhere, and are gone through one by one.
template <class Threads, class Use> HOST_DEVICE void each_four(Threads& threads, int64_t columns, Use&& use) {
  const int step = columns % 4 == 0 ? 4 : 1;
  for (int64_t i = step * threads.thread(); i < columns; i += step * kSoftmaxThreads) use(i, step);
}

template <class Threads> HOST_DEVICE void softmax_gradient(Threads& threads, const SoftmaxJob& job) {
  auto scratch = threads.template shared<ExpSum>(0, kSoftmaxThreads);
  for (int64_t r = threads.block(); r < job.rows; r += threads.blocks()) {
    float* row = job.logits + r * job.columns;
    ExpSum mine;
    each_four(threads, job.columns, [&](int64_t i, int some) {
      float values[4];
      if (some == 4) load4(threads, row + i, values);
      else values[0] = row[i];
      for (int j = 0; j < some; ++j) mine = plus_exp(mine, values[j]);
    });
    const float log_sum = log_of(combine_over_block(threads, scratch, mine, Together()));
    if (threads.thread() == 0) job.log_sums[r] = log_sum;
    if (!job.weights) continue;
    const float weight = job.weights[r];
    each_four(threads, job.columns, [&](int64_t i, int some) {
      float values[4];
      if (some == 4) load4(threads, row + i, values);
      else values[0] = row[i];
      for (int j = 0; j < some; ++j) values[j] = std::exp(values[j] - log_sum) * weight;
      if (some == 4) store4(threads, row + i, values);
      else row[i] = values[0];
    });
  }
}

}  // namespace retort
