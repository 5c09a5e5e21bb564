// The sum of gradients over the forests of a step, in forest order whichever thread brings them: every
// weight's on its own, as soon as the forests before have brought theirs. So there is one set of gradients
// and what is ahead of it, not a set for every thread.
#pragma once
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "ops/gradient_sink.h"
#include "train/step.h"

namespace retort {

class OrderedSum {
 public:
  // Whether the sums of the forests before are there from the beginning, or come from another process.
  enum class Start { now, when_told };
  // Adds to `sums` the forests from sums.forests on. At most `threads` forests wait for an earlier one.
  OrderedSum(StepSums& sums, const std::vector<Tensor>& leaves, int64_t threads, Start start = Start::now);

  // What a forest brings before its end.
  class OfForest final : public GradientSink {
   public:
    OfForest(OrderedSum& sum, int64_t index) : sum_(sum), index_(index) {}
    bool take(const Tensor& leaf, Tensor gradient) override;
    bool take_rows(RowGradient gradient) override;
    bool take_product(ProductGradient gradient) override;

   private:
    friend class OrderedSum;
    OrderedSum& sum_;
    const int64_t index_;
    std::vector<ProductGradient> of_head_;
    RowGradient of_embedding_;
  };

  // A forest has ended; `gradients` has one entry a leaf, undefined where there is nothing or the sink has
  // taken it.
  void finish(OfForest& forest, std::vector<Tensor> gradients, double nats, double weight);

  // All of the first so many forests have brought what they have for this leaf, and have not ended: its sum,
  // undefined where there is nothing.
  Tensor whole(const Tensor& leaf, int64_t forests);
  // What whole() said before, in another process, takes the place of what those forests would bring.
  void restore(const Tensor& leaf, const Tensor& sum, int64_t forests);

  // The sums hold the forests before now: what has waited for them is added.
  void start();

  // A forest will not come: nobody shall wait for it. Those before it still count.
  void end();

  // After all threads have come back: sums.forests of them are in the sums, no part of any other.
  void close();

 private:
  struct Contribution {
    Tensor gradient;  // undefined: none
    std::vector<ProductGradient> products;
    std::optional<RowGradient> rows;
  };
  struct Leaf {
    int64_t through = 0;  // forests whose contributions are in the sum
    std::map<int64_t, Contribution> waiting;
    bool adding = false;
  };
  struct Finished {
    double nats = 0, weight = 0;
  };

  std::optional<size_t> index_of(const Tensor& leaf) const;
  void bring(size_t leaf, int64_t forest, Contribution contribution, std::unique_lock<std::mutex>& lock);
  void count_finished();
  void settle(size_t leaf, std::unique_lock<std::mutex>& lock);
  void add(size_t leaf, Contribution contribution);

  StepSums& sums_;
  const std::vector<Tensor>& leaves_;
  const size_t limit_;
  std::map<const void*, size_t> places_;  // of leaves
  std::mutex mutex_;
  std::condition_variable room_;
  std::vector<Leaf> of_leaf_;
  std::map<int64_t, Finished> finished_;  // beyond whole_
  int64_t whole_;                         // all forests before have finished
  bool started_, ended_ = false;
};

}  // namespace retort
