#include "eval/significance.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace retort {
namespace {

constexpr size_t kDraws = 1000;
constexpr double kZ = 1.959963984540054;  // of 95 %
constexpr double kLevel = 0.05;

bool is_share(const TaskResult& task) {
  return std::all_of(task.samples.begin(), task.samples.end(),
                     [](const SampleResult& sample) { return sample.score == 0 || sample.score == 1; });
}

double mean(const TaskResult& task, const std::vector<size_t>& drawn) {
  double sum = 0, weight = 0;
  for (const auto i : drawn) {
    sum += task.samples[i].weight * task.samples[i].score;
    weight += task.samples[i].weight;
  }
  return weight > 0 ? sum / weight : 0;
}

}  // namespace

Interval share_interval(double share, size_t samples) {
  if (samples == 0) return {0, 1};
  const auto n = static_cast<double>(samples), z2 = kZ * kZ;
  const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kZ / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

Interval bootstrap_interval(size_t samples,
                            const std::function<double(const std::vector<size_t>& drawn)>& value) {
  if (samples == 0) return {};
  const Draws draws(7, "bootstrap");
  std::vector<double> values(kDraws);
  std::vector<size_t> drawn(samples);
  for (size_t d = 0; d < kDraws; ++d) {
    for (size_t i = 0; i < samples; ++i) drawn[i] = draws.below(d * samples + i, samples);
    values[d] = value(drawn);
  }
  std::sort(values.begin(), values.end());
  return {values[kDraws / 40 - 1], values[kDraws - kDraws / 40]};
}

double mcnemar(int64_t only_first, int64_t only_second) {
  const auto n = only_first + only_second, fewer = std::min(only_first, only_second);
  if (n == 0) return 1;
  double sum = 0;
  for (int64_t k = 0; k <= fewer; ++k)  // n over k times 2^-n, by logarithms: n may be thousands
    sum += std::exp(std::lgamma(static_cast<double>(n) + 1) - std::lgamma(static_cast<double>(k) + 1) -
                    std::lgamma(static_cast<double>(n - k) + 1) - static_cast<double>(n) * std::log(2.0));
  return std::min(1.0, 2 * sum);
}

bool PairedScores::inside_noise() const { return p ? *p >= kLevel : interval.low <= 0 && interval.high >= 0; }

std::optional<PairedScores> paired_scores(const TaskResult& first, const TaskResult& second) {
  const auto& a = first.samples;
  const auto& b = second.samples;
  if (a.empty() || a.size() != b.size()) return std::nullopt;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].id != b[i].id || a[i].weight != b[i].weight || !std::isfinite(a[i].score) ||
        !std::isfinite(b[i].score))
      return std::nullopt;
  std::vector<size_t> all(a.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  PairedScores found;
  found.first = mean(first, all);
  found.second = mean(second, all);
  found.interval = bootstrap_interval(
      a.size(), [&](const std::vector<size_t>& drawn) { return mean(second, drawn) - mean(first, drawn); });
  if (!is_share(first) || !is_share(second)) return found;
  for (size_t i = 0; i < a.size(); ++i) {
    found.only_first += a[i].score > b[i].score;
    found.only_second += b[i].score > a[i].score;
  }
  found.p = mcnemar(found.only_first, found.only_second);
  return found;
}

}  // namespace retort
