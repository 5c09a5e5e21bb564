#include "ops/attend.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ops/differentiable.h"
#include "ops/gemm.h"
#include "ops/row_loops.h"

namespace retort {
namespace {

// Keys are packed for the product kernels this many at a time: five panels of 48 columns. Panels of a path from the root are kept
// while blocks that share it follow each other.
constexpr int64_t kChunkKeys = 240;
constexpr int64_t kScoreStride = kChunkKeys + 8;   // room for one more: the other half of an odd pair of bf16
constexpr int64_t kTileRows = 192;    // rows of scores at a time, a row being a query head and a query
constexpr int64_t kDirectRows = 8;    // so few rows (decoding) are not worth packing keys for
enum Slot { kGathered = 8, kQueries, kUpstream, kScores, kSlopes, kOperands, kSums, kRow };

struct Shape {
  int64_t heads, kv_heads, width, group;   // group = heads / kv_heads
  float scale, cap;
  int64_t window;

  // Keys [first, last) of the block's concatenation that its query `i` sees; it stands there at index offset + i.
  int64_t first(int64_t offset, int64_t i) const { return window > 0 ? std::max<int64_t>(0, offset + i - window + 1) : 0; }
  int64_t last(int64_t offset, int64_t i) const { return offset + i + 1; }
};

// Queries [begin, end) of a block.
struct Tile {
  const AttendBlock* block;
  int64_t begin, end;

  int64_t rows() const { return end - begin; }
  int64_t keys() const { return block->key_count(); }
  int64_t offset() const { return keys() - (block->q_end - block->q_begin); }
  int64_t low(const Shape& shape) const { return shape.first(offset(), begin); }
  int64_t high() const { return offset() + end; }
  int64_t row() const { return block->q_begin + begin; }   // of the first query
};

std::vector<Tile> tiles_of(const std::vector<AttendBlock>& blocks, const Shape& shape) {
  const auto most = std::max<int64_t>(1, kTileRows / shape.group);
  std::vector<Tile> tiles;
  for (const auto& block : blocks)
    for (int64_t begin = 0, rows = block.q_end - block.q_begin; begin < rows; begin += most) tiles.push_back({&block, begin, std::min(rows, begin + most)});
  return tiles;
}

// Runs of tiles of about equal work, one for each thread that may be used.
std::vector<std::pair<size_t, size_t>> slices_of(const std::vector<Tile>& tiles, const Shape& shape) {
  const auto threads = at::in_parallel_region() ? 1 : static_cast<size_t>(at::get_num_threads());
  const auto cost = [&](const Tile& tile) { return static_cast<double>(tile.rows() * (tile.high() - tile.low(shape))); };
  double all = 0, done = 0;
  for (const auto& tile : tiles) all += cost(tile);
  std::vector<std::pair<size_t, size_t>> slices;
  for (size_t i = 0; i < tiles.size(); ++i) {
    if (slices.empty() || (slices.size() < threads && done >= all * static_cast<double>(slices.size()) / static_cast<double>(threads))) slices.emplace_back(i, i);
    slices.back().second = i + 1;
    done += cost(tiles[i]);
  }
  return slices;
}

template <class Part>
void each_slice(size_t count, Part&& part) {
  if (count == 1) return part(size_t{0});
  at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) part(static_cast<size_t>(i));
  });
}

int64_t common_rows(const std::vector<KeyRange>& a, const std::vector<KeyRange>& b) {
  int64_t common = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].begin != b[i].begin) break;
    common += std::min(a[i].end, b[i].end) - a[i].begin;
    if (a[i].end != b[i].end) break;
  }
  return common;
}

// Calls run(index in the concatenation, row, count) for the runs of rows in its part [first, last).
template <class Run>
void each_run(const std::vector<KeyRange>& ranges, int64_t first, int64_t last, Run&& run) {
  int64_t index = 0;
  for (const auto& range : ranges) {
    const int64_t count = range.end - range.begin, begin = std::max(first, index), end = std::min(last, index + count);
    if (begin < end) run(begin, range.begin + begin - index, end - begin);
    index += count;
  }
}

template <class T>
T* scratch(Slot slot, int64_t count) { return reinterpret_cast<T*>(scratch_bytes(slot, count * static_cast<int64_t>(sizeof(T)))); }

template <class From, class To>
void copy_elements(const From* in, To* out, int64_t count) {
  if constexpr (std::is_same_v<From, To>) std::copy_n(in, count, out);
  else if constexpr (std::is_same_v<To, float>) loops_of<From>().to_float(in, 1.0f, out, count);
  else loops_of<To>().from_float(in, out, count);
}

// Keys or values [rows, heads, width]: of this pass, or as a cache holds them.
struct Stored {
  const void* data;
  at::ScalarType type;
  const float* scales;      // 8 bits
  int64_t heads, width;

  Stored(const Tensor& tensor, const Tensor& of_codes = {})
      : data(tensor.const_data_ptr()), type(tensor.scalar_type()), scales(of_codes.defined() ? of_codes.const_data_ptr<float>() : nullptr), heads(tensor.size(1)), width(tensor.size(2)) {
    if (!tensor.is_contiguous()) throw std::logic_error("attend: keys and values are contiguous");
  }
  template <class Element>
  const Element* place(int64_t row, int64_t head) const { return static_cast<const Element*>(data) + (row * heads + head) * width; }
  // One head of one row in fp32: in place, or decoded into `room`.
  const float* row(int64_t row, int64_t head, float* room) const {
    if (type == at::kFloat) return place<float>(row, head);
    if (type == at::kBFloat16) loops_of<uint16_t>().to_float(place<uint16_t>(row, head), 1.0f, room, width);
    else row_loops().scores.codes_to_float(place<int8_t>(row, head), scales[row * heads + head], room, width);
    return room;
  }
};

// A form that keys or values of one head are packed in: the columns of q K^T, or the rows that scores sum over.
enum class Form { columns, summed };

// One of K and V, one head, packed chunk by chunk when a chunk is first asked for.
template <class Source>
class Panels {
 public:
  Panels(const GemmKernel& kernel, const Stored& source, Form form, int64_t capacity)
      : kernel_(kernel), source_(source), width_(source.width), form_(form),
        chunk_bytes_(((form == Form::columns ? panel_bytes(kernel, width_, kChunkKeys) : panel_bytes(kernel, kChunkKeys, width_)) + 63) / 64 * 64),
        packed_(static_cast<size_t>((capacity + kChunkKeys - 1) / kChunkKeys), 0),
        panels_(at::empty({static_cast<int64_t>(packed_.size()) * chunk_bytes_}, at::TensorOptions(at::kByte))) {}

  void use_head(int64_t head) {
    head_ = head;
    path_ = nullptr;
    std::fill(packed_.begin(), packed_.end(), 0);
  }
  // Chunks that lie within what the new path shares with the last one stay.
  void follow(const std::vector<KeyRange>& path, int64_t keys) {
    if (path_ == &path) return;
    const auto common = path_ ? common_rows(*path_, path) : 0;
    for (size_t c = 0; c < packed_.size(); ++c)
      if (static_cast<int64_t>(c) * kChunkKeys + packed_[c] > common) packed_[c] = 0;
    path_ = &path;
    keys_ = keys;
  }
  int64_t count(int64_t chunk) const { return std::min(kChunkKeys, keys_ - chunk * kChunkKeys); }
  const std::byte* chunk(int64_t index) {
    auto* panels = panels_.mutable_data_ptr<uint8_t>() + index * chunk_bytes_;
    auto* bytes = reinterpret_cast<std::byte*>(panels);
    if (packed_[static_cast<size_t>(index)] != count(index)) pack(index, bytes);
    return bytes;
  }

 private:
  void pack(int64_t index, std::byte* panels) {
    const auto first = index * kChunkKeys, some = count(index);
    const auto type = std::is_same_v<Source, float> ? WeightType::f32 : WeightType::bf16;
    const bool as_is = source_.type == (std::is_same_v<Source, float> ? at::kFloat : at::kBFloat16);
    GemmMatrix rows{type, nullptr, some, width_, source_.heads * width_ * static_cast<int64_t>(sizeof(Source)), form_ == Form::summed, 1};
    each_run(*path_, first, first + some, [&](int64_t at, int64_t row, int64_t run) {
      if (run == some && as_is) {   // read in place
        rows.data = reinterpret_cast<const std::byte*>(source_.place<Source>(row, head_));
        return;
      }
      auto* gathered = scratch<Source>(kGathered, some * width_);
      for (int64_t i = 0; i < run; ++i) {
        auto* to = gathered + (at - first + i) * width_;
        if (as_is) std::copy_n(source_.place<Source>(row + i, head_), width_, to);
        else copy_elements(source_.row(row + i, head_, scratch<float>(kRow, width_)), to, width_);
      }
      rows.data = reinterpret_cast<const std::byte*>(gathered);
      rows.row_bytes = width_ * static_cast<int64_t>(sizeof(Source));
    });
    pack_panels(kernel_, rows, 0, rows.n(), panels);
    packed_[static_cast<size_t>(index)] = some;
  }

  const GemmKernel& kernel_;
  Stored source_;
  int64_t width_, head_ = 0, keys_ = 0;
  Form form_;
  int64_t chunk_bytes_;
  std::vector<int64_t> packed_;             // keys of each chunk that are packed for this path
  const std::vector<KeyRange>* path_ = nullptr;
  Tensor panels_;
};

// out [m, n] of rows [m, used] and panels that were packed for `packed` elements of K.
void multiply_part(const GemmKernel& kernel, const void* a, int64_t a_stride, int64_t m, int64_t used, int64_t packed, const std::byte* panels, int64_t n, float* out,
                   int64_t out_stride, bool add) {
  const auto panel = panel_bytes(kernel, packed, kernel.width);
  const int64_t element = kernel.operand == Operand::f32 ? 4 : 2;
  for (int64_t first = 0; first < n; first += kernel.width, panels += panel) {
    const GemmSegment segment{a, a_stride * element, (used + kernel.pair - 1) / kernel.pair, panels};
    const GemmStore store{out + first, out_stride * 4, Operand::f32, add ? out + first : nullptr, out_stride * 4, nullptr, std::min(kernel.width, n - first)};
    kernel.multiply(&segment, 1, m, store);
  }
}

// Query rows of one key/value head as [group * rows, D]: row h * rows + i is its query head h, query i.
template <class From, class To>
void gather(const Tensor& x, const Shape& shape, const Tile& tile, int64_t kv_head, To* out) {
  const auto* in = elements<From>(x);
  for (int64_t h = 0; h < shape.group; ++h)
    for (int64_t i = 0; i < tile.rows(); ++i, out += shape.width)
      copy_elements(in + ((tile.row() + i) * shape.heads + kv_head * shape.group + h) * shape.width, out, shape.width);
}
template <class To>
void scatter(const float* in, const Shape& shape, const Tile& tile, int64_t kv_head, Tensor& x) {
  auto* out = mutable_elements<To>(x);
  for (int64_t h = 0; h < shape.group; ++h)
    for (int64_t i = 0; i < tile.rows(); ++i, in += shape.width)
      copy_elements(in, out + ((tile.row() + i) * shape.heads + kv_head * shape.group + h) * shape.width, shape.width);
}

// Scores of a tile's rows and one chunk, as far as any row sees it.
struct Chunk {
  int64_t index, keys, seen;   // keys packed; of them [0, seen) may be visible

  int64_t first(const Shape& shape, const Tile& tile, int64_t i) const { return std::clamp<int64_t>(shape.first(tile.offset(), tile.begin + i) - index * kChunkKeys, 0, seen); }
  int64_t last(const Shape& shape, const Tile& tile, int64_t i) const { return std::clamp<int64_t>(shape.last(tile.offset(), tile.begin + i) - index * kChunkKeys, 0, seen); }
};

template <class Body>
void each_chunk(const GemmKernel& kernel, const Shape& shape, const Tile& tile, Body&& body) {
  const auto keys = tile.keys(), high = tile.high();
  for (int64_t c = tile.low(shape) / kChunkKeys; c * kChunkKeys < high; ++c) {
    const auto packed = std::min(kChunkKeys, keys - c * kChunkKeys), wanted = high - c * kChunkKeys;
    body(Chunk{c, packed, std::min(packed, (wanted + kernel.width - 1) / kernel.width * kernel.width)});   // whole panels
  }
}

// A tile of few rows: every key is read once, in place.
template <class Source>
void attend_directly(const Tensor& q, const Stored& k, const Stored& v, const Shape& shape, const Tile& tile, int64_t head, Tensor& out, float* sums) {
  const auto m = shape.group * tile.rows(), width = shape.width, low = tile.low(shape), keys = tile.high() - low;
  auto* queries = scratch<float>(kQueries, m * width);
  auto* scores = scratch<float>(kScores, m * keys);
  auto* row = scratch<float>(kRow, width);
  auto* total = scratch<float>(kSums, m * width);
  const auto& loops = row_loops().scores;
  gather<Source>(q, shape, tile, head, queries);
  const auto each_key = [&](const Stored& source, auto&& use) {
    each_run(tile.block->keys, low, low + keys, [&](int64_t at, int64_t first, int64_t run) {
      for (int64_t i = 0; i < run; ++i) use(at + i - low, source.row(first + i, head, row));
    });
  };
  each_key(k, [&](int64_t at, const float* key) {
    for (int64_t r = 0; r < m; ++r) scores[r * keys + at] = loops.dot(queries + r * width, key, width);
  });
  for (int64_t r = 0; r < m; ++r) {
    const auto i = tile.begin + r % tile.rows();
    sums[(tile.row() + r % tile.rows()) * shape.heads + head * shape.group + r / tile.rows()] =
        loops.probabilities(scores + r * keys, keys, shape.first(tile.offset(), i) - low, shape.last(tile.offset(), i) - low, shape.scale, shape.cap);
  }
  std::fill_n(total, m * width, 0.0f);
  each_key(v, [&](int64_t at, const float* value) {
    for (int64_t r = 0; r < m; ++r) loops.add_scaled(total + r * width, value, scores[r * keys + at], width);
  });
  scatter<Source>(total, shape, tile, head, out);
}

// Chunk by chunk with a running sum of exponentials (arXiv:2205.14135), so that memory does not grow with the text.
template <class Source, class Number>
void attend_tile(const GemmKernel& kernel, const Tensor& q, Panels<Source>& keys, Panels<Source>& values, const Shape& shape, const Tile& tile, int64_t head, Tensor& out,
                 float* sums) {
  const auto m = shape.group * tile.rows(), width = shape.width, stride = kScoreStride;
  auto* queries = scratch<Number>(kQueries, m * width);
  auto* scores = scratch<float>(kScores, m * stride);
  auto* total = scratch<float>(kSums, m * (width + 1));
  auto* running = total + m * width;
  const auto& loops = row_loops().scores;
  gather<Source>(q, shape, tile, head, queries);
  keys.follow(tile.block->keys, tile.keys());
  values.follow(tile.block->keys, tile.keys());
  std::fill_n(running, m, -std::numeric_limits<float>::infinity());
  bool fresh = true;
  each_chunk(kernel, shape, tile, [&](const Chunk& chunk) {
    multiply_part(kernel, queries, width, m, width, width, keys.chunk(chunk.index), chunk.seen, scores, stride, false);
    Number* operands = nullptr;
    if constexpr (std::is_same_v<Number, float>) operands = scores;
    else operands = scratch<Number>(kOperands, m * stride);
    for (int64_t r = 0; r < m; ++r) {
      auto* row = scores + r * stride;
      const auto first = chunk.first(shape, tile, r % tile.rows()), last = chunk.last(shape, tile, r % tile.rows());
      if (first >= last) {
        std::fill_n(row, chunk.seen, 0.0f);
      } else {
        const auto here = loops.probabilities(row, chunk.seen, first, last, shape.scale, shape.cap);
        if (fresh || running[r] == -std::numeric_limits<float>::infinity()) {
          running[r] = here;
        } else {
          const auto together = std::max(here, running[r]) + std::log1p(std::exp(-std::abs(here - running[r])));
          const auto before = std::exp(running[r] - together), now = std::exp(here - together);
          for (int64_t j = 0; j < width; ++j) total[r * width + j] *= before;
          for (int64_t j = first; j < last; ++j) row[j] *= now;
          running[r] = together;
        }
      }
      if constexpr (!std::is_same_v<Number, float>) {
        copy_elements(row, operands + r * stride, chunk.seen);
        operands[r * stride + chunk.seen] = 0;
      }
    }
    multiply_part(kernel, operands, stride, m, chunk.seen, chunk.keys, values.chunk(chunk.index), width, total, width, !fresh);
    fresh = false;
  });
  scatter<Source>(total, shape, tile, head, out);
  for (int64_t r = 0; r < m; ++r) sums[(tile.row() + r % tile.rows()) * shape.heads + head * shape.group + r / tile.rows()] = running[r];
}

int64_t most_keys(const std::vector<AttendBlock>& blocks) {
  int64_t most = 0;
  for (const auto& block : blocks) most = std::max(most, block.key_count());
  return most;
}

// out [N,H*D], log_sums fp32 [N,H].
template <class Source, class Number>
void forward(const GemmKernel& kernel, const Tensor& q, const Stored& k, const Stored& v, const Shape& shape, const std::vector<AttendBlock>& blocks, Tensor& out,
             Tensor& log_sums) {
  const auto tiles = tiles_of(blocks, shape);
  const auto slices = slices_of(tiles, shape);
  auto* sums = log_sums.mutable_data_ptr<float>();
  const auto direct = [&](const Tile& tile) { return shape.group * tile.rows() <= kDirectRows; };
  const auto capacity = std::all_of(tiles.begin(), tiles.end(), direct) ? 0 : most_keys(blocks);
  each_slice(slices.size(), [&](size_t slice) {
    Panels<Source> keys(kernel, k, Form::columns, capacity), values(kernel, v, Form::summed, capacity);
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      keys.use_head(head);
      values.use_head(head);
      for (size_t i = slices[slice].first; i < slices[slice].second; ++i) {
        if (direct(tiles[i])) attend_directly<Source>(q, k, v, shape, tiles[i], head, out, sums);
        else attend_tile<Source, Number>(kernel, q, keys, values, shape, tiles[i], head, out, sums);
      }
    }
  });
}

// fp32 gradients of one head's keys or values: gathered along the path at hand, added to their rows when the path moves on.
class PathGradient {
 public:
  PathGradient(int64_t rows, int64_t capacity, int64_t width)
      : width_(width), path_(at::zeros({capacity, width}, at::TensorOptions(at::kFloat))), total_(at::zeros({rows, width}, at::TensorOptions(at::kFloat))) {}
  float* at(int64_t index) { return path_.mutable_data_ptr<float>() + index * width_; }
  void follow(const std::vector<KeyRange>* ranges, int64_t keys) {
    if (ranges == ranges_) return;
    if (ranges_) flush(ranges ? common_rows(*ranges_, *ranges) : 0);
    ranges_ = ranges;
    keys_ = keys;
  }
  // Adds this head's rows to out [N,K,D] and forgets them.
  void add_to(Tensor& out, int64_t head) {
    auto* to = out.mutable_data_ptr<float>();
    const auto heads = out.size(1);
    const auto* from = total_.const_data_ptr<float>();
    for (int64_t row = 0; row < total_.size(0); ++row, from += width_) row_loops().scores.add_scaled(to + (row * heads + head) * width_, from, 1.0f, width_);
    total_.zero_();
  }

 private:
  void flush(int64_t from) {
    each_run(*ranges_, from, keys_, [&](int64_t at_index, int64_t row, int64_t run) {
      auto* part = at(at_index);
      row_loops().scores.add_scaled(total_.mutable_data_ptr<float>() + row * width_, part, 1.0f, run * width_);
      std::fill_n(part, run * width_, 0.0f);
    });
  }
  int64_t width_, keys_ = 0;
  Tensor path_, total_;
  const std::vector<KeyRange>* ranges_ = nullptr;
};

// What the backward of one slice works with.
template <class Source>
struct BackwardPanels {
  Panels<Source> key_columns, value_columns, key_rows;
  BackwardPanels(const GemmKernel& kernel, const Tensor& k, const Tensor& v, int64_t capacity)
      : key_columns(kernel, k, Form::columns, capacity), value_columns(kernel, v, Form::columns, capacity), key_rows(kernel, k, Form::summed, capacity) {}
  template <class Do> void each(Do&& action) { action(key_columns), action(value_columns), action(key_rows); }
};

template <class Source, class Number>
void backward_tile(const GemmKernel& kernel, const Tensor& dout, const Tensor& q, const Tensor& out, const float* sums, BackwardPanels<Source>& panels, const Shape& shape,
                   const Tile& tile, int64_t head, Tensor& dq, PathGradient& dk, PathGradient& dv) {
  const auto m = shape.group * tile.rows(), width = shape.width, stride = kScoreStride;
  auto* queries = scratch<Number>(kQueries, m * width);
  auto* upstream = scratch<Number>(kUpstream, m * width);
  auto* scores = scratch<float>(kScores, m * stride);
  auto* slopes = scratch<float>(kSlopes, m * stride);
  auto* total = scratch<float>(kSums, m * (width + 2));
  auto *log_sum = total + m * width, *shared = log_sum + m;
  const auto& loops = row_loops().scores;
  gather<Source>(q, shape, tile, head, queries);
  gather<Source>(dout, shape, tile, head, upstream);
  auto* pair = scratch<float>(kRow, 2 * width);
  for (int64_t r = 0; r < m; ++r) {   // sum_j p_j dp_j = dO . O
    const auto place = (tile.row() + r % tile.rows()) * shape.heads + head * shape.group + r / tile.rows();
    copy_elements(elements<Source>(dout) + place * width, pair, width);
    copy_elements(elements<Source>(out) + place * width, pair + width, width);
    shared[r] = loops.dot(pair, pair + width, width);
    log_sum[r] = sums[place];
  }
  panels.each([&](auto& each) { each.follow(tile.block->keys, tile.keys()); });
  dk.follow(&tile.block->keys, tile.keys());
  dv.follow(&tile.block->keys, tile.keys());
  bool fresh = true;
  each_chunk(kernel, shape, tile, [&](const Chunk& chunk) {
    multiply_part(kernel, queries, width, m, width, width, panels.key_columns.chunk(chunk.index), chunk.seen, scores, stride, false);
    multiply_part(kernel, upstream, width, m, width, width, panels.value_columns.chunk(chunk.index), chunk.seen, slopes, stride, false);
    Number *p = nullptr, *ds = nullptr;
    if constexpr (std::is_same_v<Number, float>) p = scores, ds = slopes;
    else p = scratch<Number>(kOperands, 2 * m * stride), ds = p + m * stride;
    for (int64_t r = 0; r < m; ++r) {
      auto *s = scores + r * stride, *slope = slopes + r * stride;
      const auto first = chunk.first(shape, tile, r % tile.rows()), last = chunk.last(shape, tile, r % tile.rows());
      if (first < last) loops.backward(s, slope, chunk.seen, first, last, shape.scale, shape.cap, log_sum[r], shared[r]);
      else std::fill_n(s, chunk.seen, 0.0f), std::fill_n(slope, chunk.seen, 0.0f);
      if constexpr (!std::is_same_v<Number, float>) {
        copy_elements(s, p + r * stride, chunk.seen);
        copy_elements(slope, ds + r * stride, chunk.seen);
        ds[r * stride + chunk.seen] = 0;
      }
    }
    const auto start = chunk.index * kChunkKeys;
    const auto collect = [&](const Number* left, const Number* right, float* into) {
      gemm_transposed(kernel, {left, stride, kernel.operand}, chunk.seen, {right, width, kernel.operand}, width, m, {into, width, Operand::f32, nullptr, true});
    };
    collect(p, upstream, dv.at(start));
    collect(ds, queries, dk.at(start));
    multiply_part(kernel, ds, stride, m, chunk.seen, chunk.keys, panels.key_rows.chunk(chunk.index), width, total, width, !fresh);
    fresh = false;
  });
  scatter<Source>(total, shape, tile, head, dq);
}

// dq in q's type; dk, dv [N,K,D] fp32, zero at entry: shared prefixes collect the gradients of all their branches.
template <class Source, class Number>
void backward(const GemmKernel& kernel, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& log_sums, const Shape& shape,
              const std::vector<AttendBlock>& blocks, Tensor& dq, Tensor& dk, Tensor& dv) {
  const auto tiles = tiles_of(blocks, shape);
  const auto slices = slices_of(tiles, shape);
  const auto* sums = log_sums.const_data_ptr<float>();
  const auto capacity = most_keys(blocks), padded = (capacity + kChunkKeys - 1) / kChunkKeys * kChunkKeys;
  std::vector<std::pair<PathGradient, PathGradient>> gradients;
  std::vector<BackwardPanels<Source>> panels;
  for (size_t s = 0; s < slices.size(); ++s) {
    gradients.emplace_back(PathGradient(k.size(0), padded, shape.width), PathGradient(k.size(0), padded, shape.width));
    panels.emplace_back(kernel, k, v, capacity);
  }
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    each_slice(slices.size(), [&](size_t s) {
      panels[s].each([&](auto& each) { each.use_head(head); });
      auto& [of_keys, of_values] = gradients[s];
      for (size_t i = slices[s].first; i < slices[s].second; ++i)
        backward_tile<Source, Number>(kernel, dout, q, out, sums, panels[s], shape, tiles[i], head, dq, of_keys, of_values);
      of_keys.follow(nullptr, 0);
      of_values.follow(nullptr, 0);
    });
    for (auto& [of_keys, of_values] : gradients) {   // in order, whatever thread was first
      of_keys.add_to(dk, head);
      of_values.add_to(dv, head);
    }
  }
}

// Two products a pair of query and key forward, five backward.
OperationWork work_of(const Tensor& q, const Tensor& k, const Shape& shape, const std::vector<AttendBlock>& blocks) {
  double pairs = 0;
  if (profiling())
    for (const auto& block : blocks)
      for (int64_t i = 0, offset = block.key_count() - (block.q_end - block.q_begin); i < block.q_end - block.q_begin; ++i)
        pairs += static_cast<double>(shape.last(offset, i) - shape.first(offset, i));
  const double product = 2 * pairs * static_cast<double>(shape.heads * shape.width), bytes = bytes_of(q) + bytes_of(k);   // out is as large as q, v as k
  return {"attend", 2 * product, 2 * bytes, 5 * product, 4 * bytes};
}

// Rows [N, heads, width] into the cache's rows `where`; in 8 bits each head of a row has its own scale.
void store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache, Tensor* scales) {
  if (!scales) {
    const auto index = at::tensor(std::vector<int64_t>(where.begin(), where.end()), at::TensorOptions(at::kLong));
    cache.index_copy_(0, index, rows.to(cache.scalar_type()));
    return;
  }
  const Stored from(rows);
  auto* codes = cache.mutable_data_ptr<int8_t>();
  auto* scale = scales->mutable_data_ptr<float>();
  std::vector<float> room(static_cast<size_t>(from.width));
  for (size_t i = 0; i < where.size(); ++i)
    for (int64_t head = 0; head < from.heads; ++head) {
      const auto* values = from.row(static_cast<int64_t>(i), head, room.data());
      const auto place = where[i] * from.heads + head;
      float largest = 0;
      for (int64_t j = 0; j < from.width; ++j) largest = std::max(largest, std::abs(values[j]));
      scale[place] = largest / 127;
      const auto inverse = largest > 0 ? 127 / largest : 0.0f;
      for (int64_t j = 0; j < from.width; ++j) codes[place * from.width + j] = static_cast<int8_t>(std::lrint(values[j] * inverse));
    }
}

// Calls with(source element, operand element, kernel): fp32 activations meet fp32 kernels; bf16 ones what is faster on this machine.
template <class With>
void with_kernel(at::ScalarType type, With&& with) {
  const auto& kernel = gemm_kernel(type == at::kFloat ? Operand::f32 : Operand::bf16);
  if (type == at::kFloat) with(float{}, float{}, kernel);
  else if (kernel.operand == Operand::bf16) with(uint16_t{}, uint16_t{}, kernel);
  else with(uint16_t{}, float{}, kernel);
}

}  // namespace

Tensor attend(const Tensor& q_input, const Tensor& k_input, const Tensor& v_input, const AttendRule& rule, const Pass& pass) {
  if (pass.before_attend) pass.before_attend(rule, q_input, k_input);
  const auto q = q_input.contiguous(), k = k_input.contiguous(), v = v_input.contiguous();
  Shape shape{q.size(1), k.size(1), q.size(2), q.size(1) / k.size(1), 0, static_cast<float>(rule.soft_cap), rule.window};
  shape.scale = static_cast<float>(rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(shape.width)));
  if (shape.group * shape.kv_heads != shape.heads || v.size(2) != shape.width || shape.width % 2 != 0) throw std::logic_error("attend: heads do not divide");
  return differentiable(work_of(q, k, shape, pass.blocks), {q, k, v}, [&](bool recorded) -> Computed {
    auto out = at::empty({q.size(0), shape.heads * shape.width}, q.options());
    auto log_sums = at::empty({q.size(0), shape.heads}, at::TensorOptions(at::kFloat));
    std::optional<Stored> keys, values;
    if (pass.cache) {
      if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
      auto& cache = *pass.cache;
      const auto layer = static_cast<size_t>(rule.layer);
      const bool codes = !cache.key_scales.empty();
      store_in_cache(k, pass.cache_rows, cache.keys.at(layer), codes ? &cache.key_scales.at(layer) : nullptr);
      store_in_cache(v, pass.cache_rows, cache.values.at(layer), codes ? &cache.value_scales.at(layer) : nullptr);
      keys.emplace(cache.keys.at(layer), codes ? cache.key_scales.at(layer) : Tensor());
      values.emplace(cache.values.at(layer), codes ? cache.value_scales.at(layer) : Tensor());
    } else {
      keys.emplace(k);
      values.emplace(v);
    }
    with_kernel(q.scalar_type(), [&](auto source, auto operand, const GemmKernel& kernel) {
      forward<decltype(source), decltype(operand)>(kernel, q, *keys, *values, shape, pass.blocks, out, log_sums);
    });
    if (!recorded) return {out, nullptr};
    return {out, [=, blocks = pass.blocks, q = q.detach(), k = k.detach(), v = v.detach(), out = out.detach()](const Tensor& dout) -> Tensors {
      auto dq = at::empty(q.sizes(), q.options());
      auto dk = at::zeros(k.sizes(), at::TensorOptions(at::kFloat)), dv = at::zeros_like(dk);
      with_kernel(q.scalar_type(), [&](auto source, auto operand, const GemmKernel& kernel) {
        backward<decltype(source), decltype(operand)>(kernel, dout, q, k, v, out, log_sums, shape, blocks, dq, dk, dv);
      });
      return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
    }};
  });
}

}  // namespace retort
