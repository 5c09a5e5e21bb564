// Rotary position embedding (ops/rotate.h) in both layouts. A thread has eight pairs of a head, or eight
// numbers of it that stay as they are; the way back is the same with the sines' sign turned.
#pragma once
#include "kernels/threads.h"

namespace retort {

inline constexpr int kRotateThreads = 256;

struct RotateJob {
  const void* x = nullptr;  // [rows, heads, width], as out
  void* out = nullptr;
  const int64_t* positions = nullptr;                // [rows], rows of the tables
  const float *cosine = nullptr, *sine = nullptr;    // [any, half]
  int64_t rows = 0, heads = 0, width = 0, half = 0;  // half the rotated width
  int64_t first = 0;                                 // of the dimensions that turn
  bool interleaved = false, back = false;
};

struct RotatedPair {
  float a, b;
};
HOST_DEVICE inline RotatedPair rotated_pair(float a, float b, float cosine, float sine) {
  return {a * cosine - b * sine, b * cosine + a * sine};
}

// (a0, b0, a1, b1 ...) in two eights to a and b apart, and back.
HOST_DEVICE inline void take_pairs_apart(float* first, float* second) {
  float a[8], b[8];
  for (int j = 0; j < 4; ++j) {
    a[j] = first[2 * j], b[j] = first[2 * j + 1];
    a[4 + j] = second[2 * j], b[4 + j] = second[2 * j + 1];
  }
  for (int j = 0; j < 8; ++j) first[j] = a[j], second[j] = b[j];
}
HOST_DEVICE inline void put_pairs_together(float* first, float* second) {
  float all[16];
  for (int j = 0; j < 8; ++j) all[2 * j] = first[j], all[2 * j + 1] = second[j];
  for (int j = 0; j < 8; ++j) first[j] = all[j], second[j] = all[8 + j];
}

// `some` pairs (8, or 1 where a head cannot be read by eights) from `pair` on, of the head that begins at
// number `head`. Loops go to 8 in either case, so that a compiler keeps the numbers in registers.
template <class Number, class Threads>
HOST_DEVICE void rotate_some(Threads& threads, const RotateJob& job, int64_t head, const float* cosine,
                             const float* sine, int64_t pair, int some) {
  float a[8], b[8], c[8], s[8];
  const int64_t first = head + job.first + (job.interleaved ? 2 * pair : pair);
  const int64_t second = first + (job.interleaved ? some : job.half);
  load_some<Number>(threads, job.x, first, some, a);
  load_some<Number>(threads, job.x, second, some, b);
  load_some<float>(threads, cosine, pair, some, c);
  load_some<float>(threads, sine, pair, some, s);
  const bool mixed = job.interleaved && some == 8;
  if (mixed) take_pairs_apart(a, b);
  for (int j = 0; j < 8; ++j) {
    const auto rotated = rotated_pair(a[j], b[j], c[j], job.back ? -s[j] : s[j]);
    a[j] = rotated.a, b[j] = rotated.b;
  }
  if (mixed) put_pairs_together(a, b);
  store_some<Number>(threads, job.out, first, some, a);
  store_some<Number>(threads, job.out, second, some, b);
}

template <class Number, class Threads> HOST_DEVICE void rotate_heads(Threads& threads, const RotateJob& job) {
  const bool eights = job.half % 8 == 0 && job.first % 8 == 0 && job.width % 8 == 0;
  const int some = eights ? 8 : 1;
  const int64_t turning = job.half / some, staying = (job.width - 2 * job.half) / some;
  const int64_t pieces = turning + staying, all = job.rows * job.heads * pieces;
  const int64_t stride = threads.blocks() * kRotateThreads;
  for (int64_t i = threads.block() * kRotateThreads + threads.thread(); i < all; i += stride) {
    const int64_t head = i / pieces, piece = i % pieces;
    if (piece < turning) {
      const int64_t row = job.positions[head / job.heads] * job.half;
      rotate_some<Number>(threads, job, head * job.width, job.cosine + row, job.sine + row, piece * some,
                          some);
      continue;
    }
    int64_t stays = (piece - turning) * some;
    if (stays >= job.first) stays += 2 * job.half;
    const int64_t at = head * job.width + stays;
    copy_some<Number>(threads, job.x, at, job.out, at, some);
  }
}

}  // namespace retort
