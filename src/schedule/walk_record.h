// What a training step has come to that walks the layers of a model in its file, so that a step that was
// killed goes on in the layer that it was in: what each text left each layer as; then, from the last layer to
// the first, the gradients of a layer's leaves over all texts, and what flows on to the layer in front of it.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "schedule/record_file.h"

namespace retort {

using at::Tensor;

struct WalkName {
  std::string training;  // everything that decides the numbers of all its steps
  int64_t step = 0;
  std::string content;  // what decides this step's besides: its samples, and the weights that it begins with
};

class WalkRecord {
 public:
  // What other trainings and earlier steps of this one left in `folder`, and nobody works on, is removed. A
  // later step's stays: a training that goes on from a checkpoint comes there again.
  WalkRecord(const std::filesystem::path& folder, const WalkName& name);
  WalkRecord(const WalkRecord&) = delete;
  WalkRecord& operator=(const WalkRecord&) = delete;

  struct Sizes {
    std::vector<int64_t> rows;  // of each text
    int64_t width = 0;
    at::ScalarType type = at::kFloat;          // of states and what flows
    std::vector<std::vector<int64_t>> leaves;  // numbers of each leaf of each layer
    int64_t layers() const { return static_cast<int64_t>(leaves.size()); }
  };
  // Called once. What is there of another content, or damaged, counts as not being there. The disk for all of
  // it is taken at once: PassingFailure where it is full.
  void begin(Sizes sizes);

  // How many layers a text has gone through; -1: none, and not even what enters the first is here.
  int64_t layers_left(size_t text) const { return left_[text]; }
  // What a text left so many layers as. As long as the record.
  Tensor state(size_t text, int64_t layers) const;
  // Called once for each count of a text, rising; by several threads, for different texts.
  Tensor keep(size_t text, int64_t layers, const Tensor& state);

  // The lowest layer whose gradients are here, with those of all behind it; nothing: none are.
  std::optional<int64_t> layer_done() const { return done_; }
  // The gradient of what a text entered that layer as; undefined where nothing flows. As long as the record.
  Tensor flow(size_t text) const;
  // Of a layer that is at work; by several threads, for different texts.
  Tensor keep_flow(size_t text, int64_t layer, const Tensor& gradient);

  struct Learned {
    std::vector<Tensor> gradients;  // fp32 [numbers] of each leaf; undefined where there is none
    double index_nats = 0;          // of the layer's indexer, where it learns
    int64_t index_rows = 0;
  };
  // All texts have left `layer` backwards, which is the one in front of layer_done(), or the last.
  void finish(int64_t layer, const Learned& learned);
  Learned learned(int64_t layer) const;

  // The process needs these numbers no more until it asks for them; nothing happens to a tensor that does not
  // lie here.
  void rest(const Tensor& value) const;
  // The step is made.
  void remove() { file_->remove(); }

 private:
  struct Head;
  struct Entry;
  struct LayerEntry;
  Head& head() const;
  Entry& state_entry(size_t text, int64_t layers) const;
  Entry& flow_entry(size_t text, int64_t layer) const;
  LayerEntry& layer_entry(int64_t layer) const;
  std::byte* state_place(size_t text, int64_t layers) const;
  std::byte* flow_place(size_t text, int64_t layer) const;
  Tensor tensor_at(std::byte* place, int64_t rows) const;
  uint64_t gradient_bytes(int64_t layer) const;
  void map(uint64_t size);
  bool holds(const Entry& entry, std::byte* place, int64_t number, int64_t most_rows) const;
  bool layer_is_whole(int64_t layer) const;
  void look();

  const std::filesystem::path folder_;
  const std::string training_, name_;
  const ContentKey content_;
  std::unique_ptr<RecordFile> file_;
  std::byte* data_ = nullptr;
  Sizes sizes_;
  uint64_t head_bytes_ = 0, size_ = 0;
  std::vector<uint64_t> texts_;      // where each text's states begin, then what flows of it
  std::vector<uint64_t> gradients_;  // where each layer's begin
  std::vector<int64_t> left_;
  std::optional<int64_t> done_;
};

}  // namespace retort
