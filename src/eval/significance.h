// How much of a number, or of a difference between two, is the choice of the samples.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "eval/result.h"

namespace retort {

// Of a share: Wilson's interval (JASA 22, 1927), which is right near 0 and 1 too, where a bootstrap of equal
// samples knows of no doubt.
Interval share_interval(double share, size_t samples);

// 2.5 and 97.5 per cent of what `value` gives for 1000 draws of as many samples, with replacement. Always the
// same draws.
Interval bootstrap_interval(size_t samples,
                            const std::function<double(const std::vector<size_t>& drawn)>& value);

// Probability (two-sided, exact) of so uneven a split of the samples on which two models differ, if both were
// equally good: McNemar, Psychometrika 12, 1947.
double mcnemar(int64_t only_first, int64_t only_second);

// Two models on the same samples.
struct PairedScores {
  double first = 0, second = 0;  // the metric of each
  Interval interval;             // of second - first, 95 %, by bootstrap over the pairs
  int64_t only_first = 0,
          only_second = 0;    // samples that one of them alone has right; of scores that are 0 or 1
  std::optional<double> p;    // McNemar's, of such scores
  bool inside_noise() const;  // no difference can be told
};

// nullopt when the tasks did not ask the same samples.
std::optional<PairedScores> paired_scores(const TaskResult& first, const TaskResult& second);

}  // namespace retort
