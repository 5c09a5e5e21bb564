#include "train/batches.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "base/random.h"

namespace retort {

Batches::Batches(const Samples& samples, const BatchSpec& spec, uint64_t seed)
    : samples_(samples), spec_(spec), seed_(seed) {
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto weights = samples[i].weights;
    const bool supervised = weights.size() > 1 && std::any_of(weights.begin() + 1, weights.end(),
                                                              [](float weight) { return weight != 0; });
    (supervised ? supervised_ : unsupervised_).push_back(static_cast<int64_t>(i));
  }
  if (supervised_.empty())
    throw RecipeError(
        fmt::format("data: none of the {} training samples has a token that is learned; check data.loss and "
                    "the template with `retort check`",
                    samples.size()));
  group();
}

// Brings the samples of a group together, groups in the order of their first samples. Samples of fewer tokens
// are groups by themselves.
void Batches::group() {
  std::unordered_map<uint64_t, int64_t>
      groups;  // by hash: two that met by chance would only be taken together
  std::vector<std::pair<int64_t, int64_t>> placed;
  int64_t count = 0;
  for (const auto index : supervised_) {
    if (spec_.together == 0 || samples_.tokens(static_cast<size_t>(index)) < spec_.together) {
      placed.emplace_back(count++, index);
      continue;
    }
    const auto tokens = samples_[static_cast<size_t>(index)].tokens;
    uint64_t key = 0;
    for (int64_t i = 0; i < spec_.together; ++i)
      key = mix_bits(key ^ static_cast<uint64_t>(tokens[static_cast<size_t>(i)]));
    const auto [found, is_new] = groups.emplace(key, count);
    count += is_new;
    placed.emplace_back(found->second, index);
  }
  std::sort(placed.begin(), placed.end());
  for (size_t i = 0; i < placed.size(); ++i) {
    if (i == 0 || placed[i].first != placed[i - 1].first) begins_.push_back(static_cast<int64_t>(i));
    supervised_[i] = placed[i].second;
  }
  begins_.push_back(static_cast<int64_t>(placed.size()));
}

void Batches::shuffle(int64_t epoch) {
  if (epoch == order_epoch_) return;
  order_.clear();
  for (const auto group : shuffled(static_cast<int64_t>(begins_.size()) - 1,
                                   Draws(seed_, "shuffle", static_cast<uint64_t>(epoch))))
    order_.insert(order_.end(), supervised_.begin() + begins_[static_cast<size_t>(group)],
                  supervised_.begin() + begins_[static_cast<size_t>(group) + 1]);
  order_epoch_ = epoch;
}

int64_t Batches::end_of_step(int64_t begin) const {
  const auto last = std::min(begin + spec_.samples, static_cast<int64_t>(order_.size()));
  if (spec_.tokens == 0) return last;
  int64_t tokens = 0, end = begin;
  for (; end < last; ++end) {
    tokens += samples_.tokens(static_cast<size_t>(order_[static_cast<size_t>(end)]));
    if (tokens > spec_.tokens && end > begin) break;
  }
  return end;
}

std::vector<int64_t> Batches::take(Place& place) {
  shuffle(place.epoch);
  const auto begin = place.taken, end = end_of_step(begin);
  const std::vector<int64_t> chosen(order_.begin() + begin, order_.begin() + end);
  place.taken = end;
  if (end == static_cast<int64_t>(order_.size())) place = {place.epoch + 1, 0};
  return chosen;
}

int64_t Batches::steps(double epochs) {
  const auto whole = static_cast<int64_t>(std::floor(epochs));
  const auto rest = epochs - static_cast<double>(whole);
  // 1.1 - 1 is a little more than a tenth.
  const auto begun = [rest](int64_t steps) {
    return static_cast<int64_t>(std::ceil(rest * static_cast<double>(steps) - 1e-9));
  };
  const auto count = static_cast<int64_t>(supervised_.size());
  if (spec_.tokens == 0) {
    const auto each = (count + spec_.samples - 1) / spec_.samples;
    return whole * each + begun(each);
  }
  int64_t steps = 0, last = 0;  // cut by tokens, an epoch's steps depend on its order
  Place place;
  for (; place.epoch < whole; ++steps) take(place);
  if (rest == 0) return steps;
  for (; place.epoch == whole; ++last) take(place);
  return steps + begun(last);
}

}  // namespace retort
