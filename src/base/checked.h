// Arithmetic on sizes that come from outside: each step says whether it overflowed.
#pragma once
#include <cstdint>

namespace retort {

[[nodiscard]] inline bool multiply(uint64_t a, uint64_t b, uint64_t& product) {
  return !__builtin_mul_overflow(a, b, &product);
}
[[nodiscard]] inline bool add(uint64_t a, uint64_t b, uint64_t& sum) {
  return !__builtin_add_overflow(a, b, &sum);
}

// The next multiple of `alignment` (a power of two) at or above `value`; false near 2^64.
[[nodiscard]] inline bool align_up(uint64_t value, uint64_t alignment, uint64_t& aligned) {
  uint64_t padded = 0;
  if (!add(value, alignment - 1, padded)) return false;
  aligned = padded & ~(alignment - 1);
  return true;
}

}  // namespace retort
