// RMSNorm (ops/norm.h) with the residual addition before it, and its way back. A block of threads has a row,
// a thread every 256th eight of it; a row is read twice, the second time from where the first left it near.
#pragma once
#include <cmath>

#include "kernels/threads.h"

namespace retort {

inline constexpr int kNormThreads = 256;
inline constexpr int kNormShared = 4 * kNormThreads;  // bytes

struct NormJob {
  const void* x = nullptr;         // [rows, width], as all but `weight` and `scales`
  const void* delta = nullptr;     // null: none. Forward: sum = x + delta, and the norm is of the sum
  const void* gradient = nullptr;  // of the normed; null: forward. Backward: x is what was normed
  const void* more = nullptr;      // backward: what else reaches x; null: nothing
  void* sum = nullptr;             // forward, where there is a delta
  void* out = nullptr;             // the normed, or the gradient of x
  const float* weight = nullptr;   // [width]
  float* scales = nullptr;         // [rows], 1 / rms: written forward, read backward
  int64_t rows = 0, width = 0;
  float offset = 0, epsilon = 0;
};

struct Sum {
  HOST_DEVICE float operator()(float a, float b) const { return a + b; }
};

HOST_DEVICE inline float norm_scale(float squares, int64_t width, float epsilon) {
  return 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
}
HOST_DEVICE inline float normed(float x, float scale, float weight, float offset) {
  return x * scale * (weight + offset);
}
// `shared` is scale^2 times the mean of gradient * (weight + offset) * x.
HOST_DEVICE inline float norm_back(float gradient, float x, float scale, float weight, float offset,
                                   float shared) {
  return scale * (gradient * (weight + offset) - x * shared);
}

template <class Number, class Threads> HOST_DEVICE void norm_rows(Threads& threads, const NormJob& job) {
  auto scratch = threads.template shared<float>(0, kNormThreads);
  for (int64_t r = threads.block(); r < job.rows; r += threads.blocks()) {
    const int64_t row = r * job.width;
    float squares = 0;
    each_eight(threads, job.width, [&](int64_t i, int some) {
      float x[8], delta[8];
      load_some<Number>(threads, job.x, row + i, some, x);
      if (job.delta) {
        load_some<Number>(threads, job.delta, row + i, some, delta);
        for (int j = 0; j < some; ++j) {
          Number added;
          narrow_to(added, x[j] + delta[j]);
          x[j] = as_float(added);
        }
        store_some<Number>(threads, job.sum, row + i, some, x);
      }
      for (int j = 0; j < some; ++j) squares += x[j] * x[j];
    });
    const float scale =
        norm_scale(combine_over_block(threads, scratch, squares, Sum()), job.width, job.epsilon);
    if (threads.thread() == 0) job.scales[r] = scale;
    const void* from = job.delta ? job.sum : job.x;
    each_eight(threads, job.width, [&](int64_t i, int some) {
      float x[8], weight[8];
      load_some<Number>(threads, from, row + i, some, x);
      load_some<float>(threads, job.weight, i, some, weight);
      for (int j = 0; j < some; ++j) x[j] = normed(x[j], scale, weight[j], job.offset);
      store_some<Number>(threads, job.out, row + i, some, x);
    });
  }
}

template <class Number, class Threads> HOST_DEVICE void norm_rows_back(Threads& threads, const NormJob& job) {
  auto scratch = threads.template shared<float>(0, kNormThreads);
  for (int64_t r = threads.block(); r < job.rows; r += threads.blocks()) {
    const int64_t row = r * job.width;
    const float scale = job.scales[r];
    float products = 0;
    each_eight(threads, job.width, [&](int64_t i, int some) {
      float x[8], gradient[8], weight[8];
      load_some<Number>(threads, job.x, row + i, some, x);
      load_some<Number>(threads, job.gradient, row + i, some, gradient);
      load_some<float>(threads, job.weight, i, some, weight);
      for (int j = 0; j < some; ++j) products += gradient[j] * (weight[j] + job.offset) * x[j];
    });
    const float all = combine_over_block(threads, scratch, products, Sum());
    const float shared = scale * scale * all / static_cast<float>(job.width);
    each_eight(threads, job.width, [&](int64_t i, int some) {
      float x[8], gradient[8], weight[8], more[8];
      load_some<Number>(threads, job.x, row + i, some, x);
      load_some<Number>(threads, job.gradient, row + i, some, gradient);
      load_some<float>(threads, job.weight, i, some, weight);
      if (job.more) load_some<Number>(threads, job.more, row + i, some, more);
      for (int j = 0; j < some; ++j) {
        x[j] = norm_back(gradient[j], x[j], scale, weight[j], job.offset, shared);
        if (job.more) x[j] += more[j];
      }
      store_some<Number>(threads, job.out, row + i, some, x);
    });
  }
}

}  // namespace retort
