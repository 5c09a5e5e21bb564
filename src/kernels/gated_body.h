// The gated activation of feed-forward layers and its way back, each in one pass: activation(gate) * up,
// where activation(x) = x * logistic(f(x)) with f = x for silu and f = 2 sqrt(2/pi) (x + 0.044715 x^3) for
// gelu's tanh form, as the CPU's loops have it (ops/row_loops_body.h). A thread has eight neighbours. What
// lies between what is read and what is written is fp32.
#pragma once
#include <cmath>

#include "kernels/threads.h"

namespace retort {

struct GatedNumber {
  float activated, slope;  // activation(x) and its derivative
};
HOST_DEVICE inline GatedNumber gated_number(float x, bool silu) {
  constexpr float kGelu = 1.5957691216057308f, kCubic = 0.044715f;  // 2 sqrt(2/pi)
  const float f = silu ? x : kGelu * (x + kCubic * x * x * x);
  const float slope = silu ? 1.0f : kGelu * (1.0f + 3.0f * kCubic * x * x);
  const float logistic = 1.0f / (1.0f + std::exp(-f));
  return {x * logistic, logistic + x * logistic * (1.0f - logistic) * slope};
}

struct GatedJob {  // all of `count` numbers, at multiples of 16
  const void *gate = nullptr, *up = nullptr;
  const void* gradient = nullptr;  // of the result; null: forward
  void* out = nullptr;             // forward
  void *to_gate = nullptr, *to_up = nullptr;
  int64_t count = 0;
  bool silu = true;
};

inline constexpr int kGatedThreads = 256;

template <class Number, class Threads> HOST_DEVICE void gate_numbers(Threads& threads, const GatedJob& job) {
  const auto step = threads.blocks() * kGatedThreads;
  for (int64_t g = threads.block() * kGatedThreads + threads.thread(); 8 * g < job.count; g += step) {
    const int64_t first = 8 * g;
    const int some = static_cast<int>(job.count - first < 8 ? job.count - first : 8);
    float gate[8], up[8], gradient[8];
    load_some<Number>(threads, job.gate, first, some, gate);
    load_some<Number>(threads, job.up, first, some, up);
    if (!job.gradient) {
      for (int j = 0; j < 8; ++j) up[j] = gated_number(gate[j], job.silu).activated * up[j];
      store_some<Number>(threads, job.out, first, some, up);
      continue;
    }
    load_some<Number>(threads, job.gradient, first, some, gradient);
    for (int j = 0; j < 8; ++j) {
      const auto at = gated_number(gate[j], job.silu);
      gate[j] = gradient[j] * up[j] * at.slope;
      up[j] = gradient[j] * at.activated;
    }
    store_some<Number>(threads, job.to_gate, first, some, gate);
    store_some<Number>(threads, job.to_up, first, some, up);
  }
}

}  // namespace retort
