#include "eval/memorization.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "data/canaries.h"

namespace retort {
namespace {

constexpr double kZ = 1.959963984540054;  // of 95 %
constexpr double kFalseShare = 0.01;

// One that is not finite has no rank.
double finite(double nats, const std::string& task, const std::string& id) {
  if (!std::isfinite(nats))
    throw Failure(
        fmt::format("eval task '{}': {}: the model gives it no finite probability", task, printable(id)));
  return nats;
}

bool learns_something(const Sample& sample) {
  return std::any_of(sample.weights.begin(), sample.weights.end(), [](float weight) { return weight > 0; });
}

std::vector<Sample> drawn(const Samples& all, int64_t most, const Draws& draws) {
  std::vector<int64_t> chosen;
  std::set<std::string> seen;  // copies of a sample have its id
  for (const auto i : shuffled(static_cast<int64_t>(all.size()), draws)) {
    if (static_cast<int64_t>(chosen.size()) == most) break;
    const auto sample = all[static_cast<size_t>(i)];
    if (is_canary(sample.id) || !learns_something(sample) || !seen.insert(sample.id).second) continue;
    chosen.push_back(i);
  }
  std::sort(chosen.begin(), chosen.end());
  std::vector<Sample> samples;
  for (const auto i : chosen) samples.push_back(all[static_cast<size_t>(i)]);
  return samples;
}

// By how much each loss fell; the losses' negatives where there is no base.
std::vector<double> guesses(const std::vector<SampleResult>& samples, size_t begin, size_t end,
                            const TaskResult* base) {
  std::vector<double> scores;
  for (size_t i = begin; i < end; ++i)
    scores.push_back((base ? base->samples[i].score : 0.0) - samples[i].score);
  return scores;
}

void require_same_samples(const std::vector<SampleResult>& samples, const TaskResult& base,
                          const std::string& name) {
  bool same = samples.size() == base.samples.size();
  for (size_t i = 0; same && i < samples.size(); ++i) same = samples[i].id == base.samples[i].id;
  if (!same)
    throw FormatError(fmt::format(
        "eval task '{}': the base was measured on other samples; remove its file in the run's folder "
        "(eval/base.json) to measure it again",
        name));
}

}  // namespace

double largest_exposure(size_t twins) { return std::log2(static_cast<double>(twins) + 1); }

double exposure(double canary_nats, const std::vector<double>& twin_nats) {
  const auto before =
      std::count_if(twin_nats.begin(), twin_nats.end(), [&](double nats) { return nats <= canary_nats; });
  return largest_exposure(twin_nats.size()) - std::log2(static_cast<double>(before) + 1);
}

double area_under_curve(const std::vector<double>& members, const std::vector<double>& others) {
  auto sorted = others;
  std::sort(sorted.begin(), sorted.end());
  double pairs = 0;
  for (const auto score : members) {
    const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), score);
    pairs += static_cast<double>(low - sorted.begin()) + 0.5 * static_cast<double>(high - low);
  }
  return pairs / (static_cast<double>(members.size()) * static_cast<double>(others.size()));
}

Interval area_interval(double area, size_t members, size_t others) {
  const auto m = static_cast<double>(members), n = static_cast<double>(others);
  const double both_members = area / (2 - area), both_others = 2 * area * area / (1 + area);
  const double variance =
      (area * (1 - area) + (m - 1) * (both_members - area * area) + (n - 1) * (both_others - area * area)) /
      (m * n);
  const double half = kZ * std::sqrt(std::max(0.0, variance));
  return {std::max(0.0, area - half), std::min(1.0, area + half)};
}

double true_positives(const std::vector<double>& members, const std::vector<double>& others,
                      double false_share) {
  auto sorted = others;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  // A product such as 0.01 * 2900 may lie a hair below the whole number that it is.
  const auto allowed = static_cast<size_t>(false_share * static_cast<double>(others.size()) + 1e-9);
  if (allowed >= sorted.size()) return 1;
  const auto found =
      std::count_if(members.begin(), members.end(), [&](double score) { return score > sorted[allowed]; });
  return static_cast<double>(found) / static_cast<double>(members.size());
}

TaskResult exposure_task(const Subject& subject, const std::vector<Sample>& canaries,
                         const std::vector<Sample>& twins, const std::string& name) {
  TaskResult result{name, "exposure", {}, {}, static_cast<int64_t>(canaries.size()), 0, 0};
  auto all = canaries;
  all.insert(all.end(), twins.begin(), twins.end());
  const auto measured = likelihoods(subject, all);
  std::vector<double> nats;
  for (size_t i = 0; i < all.size(); ++i) {
    nats.push_back(finite(-measured[i].log_probability, name, all[i].id));
    result.tokens += measured[i].tokens;
  }
  const std::vector<double> of_twins(nats.begin() + static_cast<std::ptrdiff_t>(canaries.size()), nats.end());
  double sum = 0, largest = 0;
  for (size_t i = 0; i < canaries.size(); ++i) {
    const auto bits = exposure(nats[i], of_twins);
    sum += bits, largest = std::max(largest, bits);
    result.samples.push_back({canaries[i].id, "", "", bits});
  }
  result.metrics = {{"mean_exposure", sum / static_cast<double>(canaries.size())},
                    {"max_exposure", largest},
                    {"limit", largest_exposure(twins.size())}};
  return result;
}

MembershipSamples draw_for_membership(const Samples& train, const Samples& held_out, int64_t most,
                                      int64_t seed) {
  const auto count = most > 0 ? most : kMembershipSamples;
  const auto key = static_cast<uint64_t>(seed);
  return {drawn(train, count, Draws(key, "members")), drawn(held_out, count, Draws(key, "others"))};
}

TaskResult membership_task(const Subject& subject, const MembershipSamples& samples, const TaskResult* base,
                           const std::string& name) {
  if (samples.members.empty() || samples.others.empty())
    throw RecipeError(fmt::format(
        "eval task '{}': {} samples to learn from and {} held out; membership compares the two, raise "
        "data.held_out",
        name, samples.members.size(), samples.others.size()));
  auto all = samples.members;
  all.insert(all.end(), samples.others.begin(), samples.others.end());
  TaskResult result{name, "membership", {}, {}, static_cast<int64_t>(all.size()), 0, 0};
  const auto measured = likelihoods(subject, all);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& one = measured[i];
    result.samples.push_back({all[i].id, "", "", finite(-one.log_probability / one.weight, name, all[i].id)});
    result.tokens += one.tokens;
  }
  if (base) require_same_samples(result.samples, *base, name);
  const auto middle = samples.members.size();
  const auto members = guesses(result.samples, 0, middle, base),
             others = guesses(result.samples, middle, all.size(), base);
  const auto area = area_under_curve(members, others), tpr = true_positives(members, others, kFalseShare);
  result.metrics = {{"auc", area},
                    {"tpr_at_1_percent_fpr", tpr},
                    {"auc_of_loss", area_under_curve(guesses(result.samples, 0, middle, nullptr),
                                                     guesses(result.samples, middle, all.size(), nullptr))}};
  result.intervals = {{"auc", area_interval(area, members.size(), others.size())}};
  return result;
}

}  // namespace retort
