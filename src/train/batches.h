// Which samples each optimizer step holds: a keyed shuffle for every epoch, cut into steps. A place in the
// data is two counters. What is shuffled are groups: samples that begin with the same tokens
// (BatchSpec::together), or single ones.
#pragma once
#include "forest/samples.h"
#include "train/train_spec.h"

namespace retort {

class Batches {
 public:
  // Samples that supervise no token take no part.
  Batches(const Samples& samples, const BatchSpec& spec, uint64_t seed);

  struct Place {
    int64_t epoch = 0, taken = 0;  // samples of this epoch that earlier steps took
    bool operator==(const Place&) const = default;
  };
  // Indices of the samples of the step that begins at `place`, which moves to the next step. A step never
  // spans two epochs.
  std::vector<int64_t> take(Place& place);
  // Steps of the first `epochs` epochs; of a last one that is begun, its share rounded up to a whole step.
  int64_t steps(double epochs);
  const std::vector<int64_t>& unsupervised() const { return unsupervised_; }

 private:
  int64_t end_of_step(int64_t begin) const;
  void shuffle(int64_t epoch);
  void group();

  Samples samples_;
  BatchSpec spec_;
  uint64_t seed_;
  std::vector<int64_t> supervised_, unsupervised_;
  std::vector<int64_t> begins_;  // of each group in supervised_, and its end
  std::vector<int64_t> order_;   // of epoch order_epoch_
  int64_t order_epoch_ = -1;
};

}  // namespace retort
