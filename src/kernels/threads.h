// What the body of a kernel is written against: a block of threads with a memory that they share. A body is a
// function template over `Threads`, so that nvcc compiles it for a GPU (cuda_threads.h) and g++ for the
// tests, which run it on the CPU (tests/support/emulated_blocks.h) and notice a missing barrier. Threads has
//   thread(), threads()         this thread's number in its block, and how many there are
//   block(), blocks()           the block's number, and how many there are
//   barrier()                   nobody goes on before everybody of the block is here
//   shared<T>(offset, count)    `count` T of the block's memory from byte `offset` on: put(i, value), get(i),
//                               and read(first, count), a pointer to what was put there before a barrier
//   load16(from), store16(to, words)   16 bytes at an address that is a multiple of 16
//   load_word(from)                    4 bytes at a multiple of 4
// Sums of a block go in one order, whatever the order in which its threads run.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/half.h"

namespace retort {

struct alignas(16) Words {
  uint32_t at[4];
};

// Two bfloat16, the first of them in the low half.
HOST_DEVICE inline uint32_t pair_of_bf16(float first, float second) {
  return static_cast<uint32_t>(float_to_bf16(first)) | static_cast<uint32_t>(float_to_bf16(second)) << 16;
}

// 8 numbers to an address that is a multiple of 16.
template <class Threads> HOST_DEVICE void store8(Threads& threads, uint16_t* out, const float* values) {
  threads.store16(out, Words{{pair_of_bf16(values[0], values[1]), pair_of_bf16(values[2], values[3]),
                              pair_of_bf16(values[4], values[5]), pair_of_bf16(values[6], values[7])}});
}
template <class Threads> HOST_DEVICE void store4(Threads& threads, float* out, const float* values) {
  threads.store16(out,
                  Words{{bits_of(values[0]), bits_of(values[1]), bits_of(values[2]), bits_of(values[3])}});
}
template <class Threads> HOST_DEVICE void store8(Threads& threads, float* out, const float* values) {
  store4(threads, out, values);
  store4(threads, out + 4, values + 4);
}

template <class Threads> HOST_DEVICE void load4(Threads& threads, const float* in, float* values) {
  const Words words = threads.load16(in);
  for (int i = 0; i < 4; ++i) values[i] = float_from_bits(words.at[i]);
}
template <class Threads> HOST_DEVICE void load8(Threads& threads, const float* in, float* values) {
  load4(threads, in, values);
  load4(threads, in + 4, values + 4);
}
template <class Threads> HOST_DEVICE void load8(Threads& threads, const uint16_t* in, float* values) {
  const Words words = threads.load16(in);
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = float_from_bits(words.at[i] << 16);
    values[2 * i + 1] = float_from_bits(words.at[i] & 0xFFFF0000u);
  }
}

HOST_DEVICE inline float as_float(float value) { return value; }
HOST_DEVICE inline float as_float(uint16_t value) { return bf16_to_float(value); }
HOST_DEVICE inline void narrow_to(float& out, float value) { out = value; }
HOST_DEVICE inline void narrow_to(uint16_t& out, float value) { out = float_to_bf16(value); }

// Of the eight numbers from `first` on those that there are; zeros for the others.
template <class Number, class Threads>
HOST_DEVICE void load_some(Threads& threads, const void* from, int64_t first, int some, float* values) {
  const auto* in = static_cast<const Number*>(from) + first;
  if (some == 8) return load8(threads, in, values);
  for (int j = 0; j < 8; ++j) values[j] = j < some ? as_float(in[j]) : 0;
}
template <class Number, class Threads>
HOST_DEVICE void store_some(Threads& threads, void* to, int64_t first, int some, const float* values) {
  auto* out = static_cast<Number*>(to) + first;
  if (some == 8) return store8(threads, out, values);
  for (int j = 0; j < some; ++j) narrow_to(out[j], values[j]);
}

// The same bits, whatever numbers they are.
template <class Number, class Threads> HOST_DEVICE void copy_some(Threads& threads, const void* from,
                                                                  int64_t in_first, void* to,
                                                                  int64_t out_first, int some) {
  const auto* in = static_cast<const Number*>(from) + in_first;
  auto* out = static_cast<Number*>(to) + out_first;
  constexpr int kWords = 16 / sizeof(Number);
  if (some == 8)
    for (int j = 0; j < 8; j += kWords) threads.store16(out + j, threads.load16(in + j));
  else
    for (int j = 0; j < some; ++j) out[j] = in[j];
}

// Calls use(i, some) for this thread's eights of a row. Rows whose length is no multiple of 8 begin anywhere,
// and are gone through one by one.
template <class Threads, class Use> HOST_DEVICE void each_eight(Threads& threads, int64_t width, Use&& use) {
  const int step = width % 8 == 0 ? 8 : 1;
  for (int64_t i = step * threads.thread(); i < width; i += step * threads.threads()) use(i, step);
}

// Combines what the threads of a block bring, in pairs that are half the block apart, then a quarter, and so
// on, and gives it to all of them. The number of threads is a power of two, `scratch` has a place for each
// and may be written again afterwards.
template <class Threads, class Scratch, class T, class Combine>
HOST_DEVICE T combine_over_block(Threads& threads, Scratch scratch, T mine, Combine combine) {
  const int me = threads.thread();
  scratch.put(me, mine);
  for (int half = threads.threads() / 2; half > 0; half /= 2) {
    threads.barrier();
    if (me < half) scratch.put(me, combine(scratch.get(me), scratch.get(me + half)));
  }
  threads.barrier();
  const T all = scratch.get(0);
  threads.barrier();
  return all;
}

}  // namespace retort
