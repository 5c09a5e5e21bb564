// Keys and values as attention reads them: stored in this pass or in a cache, walked along the path of a
// block, one head at a time.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "forest/forest.h"
#include "ops/gemm_kernel.h"

namespace retort {

using at::Tensor;

// Keys are worked on so many at a time: their rows, and the scores of a strip of queries, stay in the
// second-level cache.
constexpr int64_t kChunkKeys = 240;

// How many rows two paths have in common, from the root.
int64_t common_rows(const std::vector<KeyRange>& a, const std::vector<KeyRange>& b);

// Calls run(index in the concatenation, row, count) for the runs of rows in its part [first, last).
template <class Run>
void each_run(const std::vector<KeyRange>& ranges, int64_t first, int64_t last, Run&& run) {
  int64_t index = 0;
  for (const auto& range : ranges) {
    const int64_t count = range.end - range.begin, begin = std::max(first, index),
                  end = std::min(last, index + count);
    if (begin < end) run(begin, range.begin + begin - index, end - begin);
    index += count;
  }
}

// Rows of one head lie far apart, where the hardware foresees nothing: asks for one that is needed a few rows
// later.
inline void prefetch(const void* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const std::byte*>(data) + i);
}
constexpr int64_t kRowsAhead = 6;

// `count` elements of fp32 or bf16 as operands of a product, and the other way.
void to_operands(const void* in, at::ScalarType type, Operand operand, void* out, int64_t count);
void from_operands(const void* in, Operand operand, at::ScalarType type, void* out, int64_t count);
inline int64_t operand_bytes(Operand operand) { return operand == Operand::f32 ? 4 : 2; }

// Keys or values [rows, heads, width]: of this pass, or as a cache holds them. Values may be the first so
// many numbers of the keys themselves.
struct Stored {
  const std::byte* data;
  at::ScalarType type;
  const float* scales;           // 8 bits
  int64_t heads, width, stride;  // `stride` from one head's row to the next

  Stored(const Tensor& tensor, const Tensor& of_codes = {}, int64_t first_numbers = 0);
  int64_t row_bytes() const { return width * static_cast<int64_t>(c10::elementSize(type)); }
  const std::byte* place(int64_t row, int64_t head) const {
    return data + (row * heads + head) * stride * static_cast<int64_t>(c10::elementSize(type));
  }
  // One head of one row in fp32: in place, or decoded into `room`.
  const float* row(int64_t row, int64_t head, float* room) const;
  // The same as operands; `room` holds a row of fp32.
  void copy_row(int64_t row, int64_t head, Operand operand, void* out, float* room) const;
};

// Rows [N, heads, width] into the cache's rows `where`; in 8 bits each head of a row has its own scale.
void store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache, Tensor* scales);

// How keys or values of one head are laid out: [keys, width], and [width, kChunkKeys] with zeros up to whole
// cells.
enum class Layout { rows = 1, transposed = 2, both = 3 };

// One of K and V, one head, copied chunk by chunk when a chunk is first asked for. Chunks of a path from the
// root are kept while blocks that share it follow each other.
class KeyChunks {
 public:
  KeyChunks(const GemmKernel& kernel, const Stored& source, Layout layout, int64_t capacity);
  void use_head(int64_t head);
  void follow(const std::vector<KeyRange>& path, int64_t keys);
  // Keys [index * kChunkKeys + first, ...) of the path.
  const std::byte* rows(int64_t index, int64_t first) {
    return chunk(index) + first * source_.width * operand_bytes(kernel_.operand);
  }
  const std::byte* transposed(int64_t index, int64_t first) {
    return chunk(index) + rows_bytes_ + first * operand_bytes(kernel_.operand);
  }

 private:
  const std::byte* chunk(int64_t index);

  const GemmKernel& kernel_;
  Stored source_;
  Layout layout_;
  int64_t head_ = 0, keys_ = 0, rows_bytes_, chunk_bytes_;
  std::vector<int64_t> copied_;  // keys of each chunk that are there for this path
  const std::vector<KeyRange>* path_ = nullptr;
  Tensor memory_;
};

// Gradients of keys or values, one head at a time: gathered along the path at hand, added to their rows of
// `out` [N,K,D] when the path moves on. Where several threads have parts of a sum, each keeps its `own` until
// add_own().
class PathGradient {
 public:
  PathGradient(Tensor& out, int64_t capacity, bool own);
  void use_head(int64_t head) { head_ = head; }
  float* at(int64_t index) { return path_.mutable_data_ptr<float>() + index * width_; }
  void follow(const std::vector<KeyRange>* ranges, int64_t keys);
  void add_own();

 private:
  void flush(int64_t from);
  float* place(int64_t row) { return out_.mutable_data_ptr<float>() + (row * out_.size(1) + head_) * width_; }

  Tensor out_, path_, own_;
  int64_t width_, head_ = 0, keys_ = 0;
  const std::vector<KeyRange>* ranges_ = nullptr;
};

}  // namespace retort
