// A model whose layers come from another one's memory as if from a file, each reading counted.
#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "models/layer_stream.h"
#include "models/model.h"

namespace retort {

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

// `streamed` reads what `resident`, which outlives it, has in memory. The budget is that of the stream that it
// had, with room for two layers.
inline std::shared_ptr<CountedReads> count_reads(Model& streamed, const Model& resident) {
  auto counted = std::make_shared<CountedReads>();
  std::map<TensorPlace, const Linear*> linears;
  for (const auto* linear : resident.linears()) linears.emplace(linear->place, linear);
  auto budget = streamed.stream()->budget();
  budget.weights = std::max<uint64_t>(budget.weights, budget.stored);
  streamed.read_layers_from(std::make_shared<LayerStream>(
      LayerStream::File{[counted, linears](const TensorPlace& place, bool) {
                          counted->add(place);
                          return base_matrix(*linears.at(place));
                        },
                        [](const TensorPlace&) {},
                        [linears](const TensorPlace& place) {
                          return linears.at(place)->weight.stored_bytes();
                        }},
      budget));
  return counted;
}

}  // namespace retort
