// A model whose layers come from another one's memory as if from a file; each reading is heard.
#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "models/layer_stream.h"
#include "models/model.h"

namespace retort {

// `streamed` reads what `resident`, which outlives it, has in memory; `hear` may throw instead.
inline void hear_reads(Model& streamed, const Model& resident, const LayerStream::Budget& budget,
                       const std::function<void(const TensorPlace& place)>& hear) {
  std::map<TensorPlace, const Linear*> linears;
  for (const auto* linear : resident.linears()) linears.emplace(linear->place, linear);
  streamed.read_layers_from(std::make_shared<LayerStream>(
      LayerStream::File{
          [hear, linears](const TensorPlace& place, bool) {
            hear(place);
            return base_matrix(*linears.at(place));
          },
          [](const TensorPlace&) {},
          [linears](const TensorPlace& place) { return linears.at(place)->weight.stored_bytes(); }},
      budget));
}

// Of matrices there is room for `weights` bytes, the rest of the budget is that of the stream that the model
// had.
inline void hear_reads(Model& streamed, const Model& resident, uint64_t weights,
                       const std::function<void(const TensorPlace& place)>& hear) {
  auto budget = streamed.stream()->budget();
  budget.weights = weights;
  hear_reads(streamed, resident, budget, hear);
}

class CountedReads {
 public:
  void add(const TensorPlace& place) {
    const std::lock_guard lock(mutex_);
    ++reads_[place];
  }
  std::map<TensorPlace, int64_t> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reads_, {});
  }

 private:
  std::mutex mutex_;
  std::map<TensorPlace, int64_t> reads_;
};

// With room for all matrices, so that none is read twice before it is let go.
inline std::shared_ptr<CountedReads> count_reads(Model& streamed, const Model& resident) {
  auto counted = std::make_shared<CountedReads>();
  hear_reads(streamed, resident, std::max<uint64_t>(1, streamed.stream()->budget().stored),
             [counted](const TensorPlace& place) { counted->add(place); });
  return counted;
}

}  // namespace retort
