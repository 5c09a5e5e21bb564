#include "eval/calibration.h"

#include <algorithm>
#include <cmath>

namespace retort {

void Calibration::add(double probability, bool right) {
  const auto bin = std::min(static_cast<size_t>(std::max(0.0, probability) * kBins), kBins - 1);
  sum_[bin] += probability;
  right_[bin] += right;
  ++count_[bin];
}

double Calibration::error() const {
  double sum = 0;
  int64_t count = 0;
  for (size_t bin = 0; bin < kBins; ++bin) {
    sum += std::abs(sum_[bin] - static_cast<double>(right_[bin]));
    count += count_[bin];
  }
  return count == 0 ? 0 : sum / static_cast<double>(count);
}

}  // namespace retort
