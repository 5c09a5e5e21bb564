// Keyed randomness: draw = f(seed, purpose, epoch, index). A resumed run needs counters, not generator
// states.
#pragma once
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <vector>

namespace retort {

// SplitMix64's finalizer (Steele, Lea, Flood 2014): a bijection whose outputs pass for independent draws.
constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// One stream of draws: everything that names it is hashed into `key`, draws are numbered by index.
class Draws {
 public:
  constexpr Draws(uint64_t seed, std::string_view purpose, uint64_t epoch = 0) : key_(mix_bits(seed)) {
    for (const char c : purpose) key_ = mix_bits(key_ ^ static_cast<unsigned char>(c));
    key_ = mix_bits(key_ ^ mix_bits(epoch));
  }
  constexpr uint64_t bits(uint64_t index) const { return mix_bits(key_ ^ mix_bits(index)); }
  double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1p-53; }  // [0, 1)
  double normal(uint64_t index) const {  // Box-Muller
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(2 * index)));
    return radius * std::cos(6.283185307179586 * uniform(2 * index + 1));
  }
  uint64_t below(uint64_t index, uint64_t limit) const {  // [0, limit), bias below 2^-64 * limit
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * limit) >> 64);
  }
  constexpr uint64_t key() const { return key_; }

 private:
  uint64_t key_;
};

// A permutation of 0..count-1 (Fisher-Yates over keyed draws).
inline std::vector<int64_t> shuffled(int64_t count, const Draws& draws) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(order[i], order[draws.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
  return order;
}

}  // namespace retort
