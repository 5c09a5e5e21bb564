// The trained model as a list of tensors under its checkpoint's names, adapters folded in, produced row by
// row in fp32: every writer rounds once, from these.
#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/model.h"
#include "quant/types.h"

namespace retort {

struct MergedTensor {
  std::string name;            // Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> shape;  // [rows, columns] or [n]
  TensorPlace place;
  // Rows [first, first + count) as contiguous fp32 [count, columns]; a vector is one row. Safe to call from
  // several threads.
  std::function<Tensor(int64_t first, int64_t count)> rows;

  int64_t row_count() const { return shape.size() == 1 ? 1 : shape.front(); }
  int64_t row_length() const { return shape.back(); }
};

// Embedding, linear layers, norms, head (absent when tied); of a layer behind the last (model.mtp) the copies
// of embedding and head too. The model must outlive the list.
std::vector<MergedTensor> merged_tensors(const Model& model);
// Of the layer behind the last: one of its matrices, or its copy of the embedding or the head.
inline bool is_behind_the_last(const ModelConfig& config, const TensorPlace& place) {
  return place.layer >= config.layers;
}

// Encodes rows [0, rows) chunk by chunk on `threads` threads and hands the chunks to `sink` in order, in the
// caller's thread; at most kChunksAThread chunks a thread are in memory.
constexpr int64_t kChunksAThread = 4;
using Bytes = std::vector<std::byte>;
// Rows of a tensor as `type` stores them. RecipeError naming the tensor and the value that `type` cannot
// hold: f16 ends at 65504, and what is larger would be stored as infinity.
Bytes encode_rows(const std::string& name, WeightType type, const Tensor& values);
void encode_in_order(int64_t rows, int64_t chunk_rows, int64_t threads,
                     const std::function<Bytes(int64_t first, int64_t count)>& encode,
                     const std::function<void(std::span<const std::byte>)>& sink);

// Rows of a chunk so that it holds about 256 KiB of fp32: small matrices keep all threads busy too.
inline int64_t rows_per_chunk(int64_t row_length) {
  return std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(1, row_length));
}

}  // namespace retort
