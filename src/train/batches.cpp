#include "train/batches.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"

namespace retort {

Batches::Batches(const Samples& samples, const BatchSpec& spec, uint64_t seed) : samples_(samples), spec_(spec), seed_(seed) {
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto weights = samples[i].weights;
    const bool supervised = weights.size() > 1 && std::any_of(weights.begin() + 1, weights.end(), [](float weight) { return weight != 0; });
    (supervised ? supervised_ : unsupervised_).push_back(static_cast<int64_t>(i));
  }
  if (supervised_.empty())
    throw RecipeError(fmt::format("data: none of the {} training samples has a supervised token; check data.loss and the template with `retort check`", samples.size()));
}

void Batches::shuffle(int64_t epoch) {
  if (epoch == order_epoch_) return;
  order_ = shuffled(static_cast<int64_t>(supervised_.size()), Draws(seed_, "shuffle", static_cast<uint64_t>(epoch)));
  for (auto& index : order_) index = supervised_[static_cast<size_t>(index)];
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

int64_t Batches::steps(int64_t epochs) {
  const auto count = static_cast<int64_t>(supervised_.size());
  if (spec_.tokens == 0) return epochs * ((count + spec_.samples - 1) / spec_.samples);
  int64_t steps = 0;   // cut by tokens, an epoch's steps depend on its order
  for (Place place; place.epoch < epochs; ++steps) take(place);
  return steps;
}

}  // namespace retort
