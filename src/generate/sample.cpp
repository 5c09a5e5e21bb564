#include "generate/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"

namespace retort {
namespace {

void penalise_repetition(std::span<float> logits, double penalty, const std::unordered_set<int32_t>& seen) {
  for (const auto token : seen) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    auto& logit = logits[token];
    logit = static_cast<float>(logit < 0 ? logit * penalty : logit / penalty);
  }
}

// Ties with the k-th stay, as in transformers.
void keep_top_k(std::span<float> logits, int64_t k) {
  if (k >= static_cast<int64_t>(logits.size())) return;
  std::vector<float> sorted(logits.begin(), logits.end());
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const float least = sorted[k - 1];
  for (auto& logit : logits)
    if (logit < least) logit = kNever;
}

// Removes tokens from the least likely upwards while their probabilities sum to at most 1 - p; the most
// likely stays. Tokens below (1 - p) / V sum to less than 1 - p whatever they are, so only the others need
// sorting.
void keep_top_p(std::span<float> logits, double p) {
  const float largest = logits[most_likely(logits)];
  double total = 0;
  for (const auto logit : logits) total += std::exp(static_cast<double>(logit - largest));
  const double removable = (1 - p) * total;
  const double surely = removable / static_cast<double>(logits.size());
  std::vector<std::pair<float, int32_t>> candidates;
  double removed = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp(static_cast<double>(logits[i] - largest));
    if (weight < surely) {
      removed += weight;
      logits[i] = kNever;
    } else {
      candidates.emplace_back(logits[i], static_cast<int32_t>(i));
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i + 1 < candidates.size(); ++i) {
    removed += std::exp(static_cast<double>(candidates[i].first - largest));
    if (removed > removable) break;
    logits[candidates[i].second] = kNever;
  }
}

void keep_min_p(std::span<float> logits, double share) {
  const auto least = static_cast<float>(logits[most_likely(logits)] + std::log(share));
  for (auto& logit : logits)
    if (logit < least) logit = kNever;
}

}  // namespace

int32_t most_likely(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void filter_logits(std::span<float> logits, const SampleSpec& spec, const std::unordered_set<int32_t>& seen) {
  if (spec.repetition_penalty != 1) penalise_repetition(logits, spec.repetition_penalty, seen);
  if (spec.greedy()) return;
  if (spec.temperature != 1)
    for (auto& logit : logits) logit = static_cast<float>(logit / spec.temperature);
  if (spec.top_k > 0) keep_top_k(logits, spec.top_k);
  if (spec.top_p < 1) keep_top_p(logits, spec.top_p);
  if (spec.min_p > 0) keep_min_p(logits, spec.min_p);
}

int32_t draw_token(std::span<const float> logits, double uniform) {
  const auto best = most_likely(logits);
  const float largest = logits[best];
  double total = 0;
  for (const auto logit : logits) total += std::exp(static_cast<double>(logit - largest));
  double reached = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    reached += std::exp(static_cast<double>(logits[i] - largest));
    if (uniform * total < reached) return static_cast<int32_t>(i);
  }
  return best;  // rounding at the very end of the distribution
}

int32_t next_token(std::span<float> logits, const SampleSpec& spec, const std::unordered_set<int32_t>& seen,
                   int64_t answer, int64_t step) {
  filter_logits(logits, spec, seen);
  if (spec.greedy()) return most_likely(logits);
  const Draws draws(static_cast<uint64_t>(spec.seed), "sample", static_cast<uint64_t>(answer));
  return draw_token(logits, draws.uniform(static_cast<uint64_t>(step)));
}

}  // namespace retort
