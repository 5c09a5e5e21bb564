// Is a model as sure as it is right?
#pragma once
#include <array>
#include <cstdint>

namespace retort {

// Expected calibration error (Naeini et al. 2015; arXiv:1706.04599): ten bins of equal width over the model's
// own probability of its answer, in each how far its mean is from the share of right answers, weighted by how
// many answers fall into it. 0 is best.
class Calibration {
 public:
  void add(double probability, bool right);
  double error() const;

 private:
  static constexpr size_t kBins = 10;
  std::array<double, kBins> sum_ = {};
  std::array<int64_t, kBins> right_ = {}, count_ = {};
};

}  // namespace retort
