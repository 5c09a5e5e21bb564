#include "ops/attend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "ops/attend_parts.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

// Query heads at a time: the depth of the products that gradients of keys and values sum.
constexpr int64_t kTileColumns = 192;
constexpr int64_t kKeyStep = 16;       // what is not seen is left out in steps of so many keys
constexpr int64_t kDirectColumns = 8;  // so few (decoding) are not worth copying keys for
static_assert(kChunkKeys % kKeyStep == 0);

// Columns of a strip, whose scores stay in cache: whole panels of the kernel, and whole vectors of the loops
// over scores, three at a time.
int64_t strip_of(const GemmKernel& kernel) {
  const int64_t strip = std::lcm(kernel.width, int64_t{48});
  if (kTileColumns % strip != 0) throw std::logic_error("attend: a kernel's panels do not divide a tile");
  return strip;
}

struct Shape {
  int64_t heads, kv_heads, width, values, group;  // widths of a key and a value; group = heads / kv_heads
  float scale, cap;
  int64_t window;
  int64_t strip = 0;  // strip_of() the kernel

  // Keys [first, last) of the block's concatenation that its query `i` sees; it stands there at index offset
  // + i.
  int64_t first(int64_t offset, int64_t i) const {
    return window > 0 ? std::max<int64_t>(0, offset + i - window + 1) : 0;
  }
  int64_t last(int64_t offset, int64_t i) const { return offset + i + 1; }
};

// Queries [begin, end) of a block. A column of scores is one query head of one of them, heads of a query next
// to each other; columns are filled up to whole vectors, with queries of zero.
struct Tile {
  const AttendBlock* block;
  int64_t begin, end;

  int64_t rows() const { return end - begin; }
  int64_t keys() const { return block->key_count(); }
  int64_t offset() const { return keys() - (block->q_end - block->q_begin); }
  int64_t low(const Shape& shape) const { return shape.first(offset(), begin); }
  int64_t high() const { return offset() + end; }
  int64_t columns(const Shape& shape) const { return rows() * shape.group; }
  int64_t padded(const Shape& shape) const { return round_up(columns(shape), 16); }
  // Calls run(column, place of its head in [N,H], count) for what lies together there of columns [first,
  // last).
  template <class Run>
  void each_query(const Shape& shape, int64_t kv_head, int64_t first, int64_t last, Run&& run) const {
    for (int64_t c = first; c < last;) {
      const auto i = c / shape.group, h = c - i * shape.group, count = std::min(last - c, shape.group - h);
      run(c, (block->q_begin + begin + i) * shape.heads + kv_head * shape.group + h, count);
      c += count;
    }
  }
};

std::vector<Tile> tiles_of(const std::vector<AttendBlock>& blocks, const Shape& shape) {
  const auto most = std::max<int64_t>(1, kTileColumns / shape.group);
  std::vector<Tile> tiles;
  for (const auto& block : blocks)
    for (int64_t begin = 0, rows = block.q_end - block.q_begin; begin < rows; begin += most)
      tiles.push_back({&block, begin, std::min(rows, begin + most)});
  return tiles;
}

// Runs of tiles of about equal work, one for each thread that may be used.
std::vector<std::pair<size_t, size_t>> slices_of(const std::vector<Tile>& tiles, const Shape& shape) {
  const auto threads = static_cast<size_t>(team_size());
  const auto cost = [&](const Tile& tile) {
    return static_cast<double>(tile.rows() * (tile.high() - tile.low(shape)));
  };
  double all = 0, done = 0;
  for (const auto& tile : tiles) all += cost(tile);
  std::vector<std::pair<size_t, size_t>> slices;
  for (size_t i = 0; i < tiles.size(); ++i) {
    if (slices.empty() || (slices.size() < threads &&
                           done >= all * static_cast<double>(slices.size()) / static_cast<double>(threads)))
      slices.emplace_back(i, i);
    slices.back().second = i + 1;
    done += cost(tiles[i]);
  }
  return slices;
}

template <class Part> void each_slice(size_t count, Part&& part) {
  if (count == 1) return part(size_t{0});
  over_range(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) part(static_cast<size_t>(i));
  });
}

// Columns of one key/value head of x [N, heads * width], as operands [padded columns, width].
template <class Number> void gather(const Tensor& x, const Shape& shape, int64_t width, const Tile& tile,
                                    int64_t kv_head, Number* out) {
  const auto* in = static_cast<const std::byte*>(x.const_data_ptr());
  const auto row_bytes = width * x.element_size();
  tile.each_query(shape, kv_head, 0, tile.columns(shape), [&](int64_t c, int64_t place, int64_t count) {
    prefetch(in + (place + kRowsAhead * shape.heads) * row_bytes, count * row_bytes);
    to_operands(in + place * row_bytes, x.scalar_type(), operand_of(Number{}), out + c * width,
                count * width);
  });
  std::fill(out + tile.columns(shape) * width, out + tile.padded(shape) * width, Number{});
}

// A part of a tile's columns, and the keys of a chunk that any of them sees, from a multiple of kKeyStep.
struct Strip {
  int64_t first, columns;  // whole vectors
  int64_t stride;          // of its scores: the columns of a full strip
  int64_t begin = 0, end = 0;
  bool fresh = false;  // no earlier chunk has keys that it sees

  int64_t keys() const { return end - begin; }
};

template <class Body> void each_strip(const Shape& shape, const Tile& tile, Body&& body) {
  for (int64_t first = 0; first < tile.padded(shape); first += shape.strip)
    body(Strip{first, std::min(shape.strip, tile.padded(shape) - first), shape.strip});
}

// The strips that see any of chunk `index`.
template <class Body> void each_strip_of(int64_t index, const Shape& shape, const Tile& tile, Body&& body) {
  const auto start = index * kChunkKeys, keys = std::min(kChunkKeys, tile.keys() - start);
  each_strip(shape, tile, [&](Strip strip) {
    const auto last = std::min(strip.first + strip.columns, tile.columns(shape)) - 1;
    const auto low = shape.first(tile.offset(), tile.begin + strip.first / shape.group) - start;
    strip.begin = std::clamp<int64_t>(low, 0, keys) / kKeyStep * kKeyStep;
    strip.end =
        std::clamp<int64_t>(shape.last(tile.offset(), tile.begin + last / shape.group) - start, 0, keys);
    strip.fresh = low >= 0;
    if (strip.begin < strip.end) body(strip);
  });
}

template <class Body> void each_chunk(const Shape& shape, const Tile& tile, Body&& body) {
  for (int64_t index = tile.low(shape) / kChunkKeys; index * kChunkKeys < tile.high(); ++index) body(index);
}

// Key j of chunk `index` is seen by query i of the tile where j <= diagonal + i.
int64_t diagonal_of(const Tile& tile, int64_t index) {
  return tile.offset() + tile.begin - index * kChunkKeys;
}

ScoreBlock block_of(float* scores, const Shape& shape, const Tile& tile, int64_t index, const Strip& strip) {
  return {scores,
          strip.stride,
          strip.keys(),
          strip.columns,
          shape.group,
          strip.first,
          diagonal_of(tile, index) - strip.begin,
          shape.window,
          shape.scale,
          shape.cap};
}

// The products of a strip with one form of keys: scores [keys, stride] = rows [keys, width] of keys times
// packed queries ...
template <class Number> void score(const GemmKernel& kernel, const std::byte* keys, const std::byte* packed,
                                   int64_t width, const Strip& strip, float* scores) {
  const auto* panels = packed + strip.first / kernel.width * panel_bytes(kernel, width, kernel.width);
  multiply_panels(kernel, rows_of(numbers<Number>(keys), width), round_up(strip.keys(), 8), width, panels,
                  strip.columns, {scores, strip.stride, Operand::f32});
}
// ... and total [width, stride] += columns [width, keys] of keys times what scores became [keys, columns].
template <class Number> void collect(const GemmKernel& kernel, const std::byte* keys, const Number* scores,
                                     int64_t stride, int64_t width, const Strip& strip, float* total,
                                     bool add) {
  auto* panels = scratch<std::byte>(Scratch::score_panels, panel_bytes(kernel, kChunkKeys, strip.stride));
  pack_panels(kernel, matrix_of(scores, strip.keys(), strip.columns, stride, true), 0, strip.columns, panels);
  multiply_panels(kernel, rows_of(numbers<Number>(keys), kChunkKeys), width, strip.keys(), panels,
                  strip.columns, {total, strip.stride, Operand::f32, nullptr, add});
}

// Totals [width, stride] of a strip, times `factors` where there are any, to their places in x [N, heads *
// width].
template <class Number> void scatter(const GemmKernel& kernel, const float* total, const float* factors,
                                     const Shape& shape, int64_t width, const Tile& tile, const Strip& strip,
                                     int64_t kv_head, Tensor& x) {
  auto* lying = scratch<Number>(Scratch::columns, 2 * width * strip.stride);
  auto* standing = lying + width * strip.stride;
  for (int64_t j = 0; j < width; ++j) {
    if (factors)
      loops_of<Number>().times(total + j * strip.stride, factors, lying + j * strip.stride, strip.columns);
    else
      to_operands(total + j * strip.stride, at::kFloat, operand_of(Number{}), lying + j * strip.stride,
                  strip.columns);
  }
  const auto last = std::min(strip.first + strip.columns, tile.columns(shape)), columns = last - strip.first,
             row_bytes = width * x.element_size();
  kernel.transpose(lying, strip.stride * static_cast<int64_t>(sizeof(Number)), width, columns, standing,
                   width * static_cast<int64_t>(sizeof(Number)));
  auto* out = static_cast<std::byte*>(x.mutable_data_ptr());
  tile.each_query(shape, kv_head, strip.first, last, [&](int64_t c, int64_t place, int64_t count) {
    from_operands(standing + (c - strip.first) * width, operand_of(Number{}), x.scalar_type(),
                  out + place * row_bytes, count * width);
  });
}

// A tile of few columns: every key is read once, in place.
void attend_directly(const Tensor& q, const Stored& k, const Stored& v, const Shape& shape, const Tile& tile,
                     int64_t head, Tensor& out, float* sums) {
  const auto m = tile.columns(shape), width = shape.width, values = shape.values, low = tile.low(shape),
             keys = tile.high() - low;
  auto* queries = scratch<float>(Scratch::queries, tile.padded(shape) * width);
  auto* scores = scratch<float>(Scratch::scores, m * keys);
  auto* row = scratch<float>(Scratch::columns, std::max(width, values));
  auto* total = scratch<float>(Scratch::sums, m * values);
  const auto& loops = row_loops().scores;
  gather(q, shape, width, tile, head, queries);
  const auto each_key = [&](const Stored& source, auto&& use) {
    each_run(tile.block->keys, low, low + keys, [&](int64_t at, int64_t first, int64_t run) {
      for (int64_t i = 0; i < run; ++i) use(at + i - low, source.row(first + i, head, row));
    });
  };
  each_key(k, [&](int64_t at, const float* key) {
    for (int64_t c = 0; c < m; ++c)
      loops_of<float>().dots(queries + c * width, key, 1, width, scores + c * keys + at);
  });
  tile.each_query(shape, head, 0, m, [&](int64_t column, int64_t place, int64_t count) {
    const auto i = tile.begin + column / shape.group;
    for (int64_t c = column; c < column + count; ++c, ++place)
      sums[place] = loops.probabilities(scores + c * keys, keys, shape.first(tile.offset(), i) - low,
                                        shape.last(tile.offset(), i) - low, shape.scale, shape.cap);
  });
  std::fill_n(total, m * values, 0.0f);
  each_key(v, [&](int64_t at, const float* value) {
    for (int64_t c = 0; c < m; ++c)
      loops.add_scaled(total + c * values, value, scores[c * keys + at], values);
  });
  auto* to = static_cast<std::byte*>(out.mutable_data_ptr());
  tile.each_query(shape, head, 0, m, [&](int64_t c, int64_t place, int64_t count) {
    from_operands(total + c * values, Operand::f32, out.scalar_type(),
                  to + place * values * out.element_size(), count * values);
  });
}

// Chunk by chunk with a running sum of exponentials (arXiv:2205.14135), so that memory does not grow with the
// text. Scores lie [keys, columns]: keys are read as they are stored, and softmax runs along vectors of
// columns.
template <class Number> void attend_tile(const GemmKernel& kernel, const Tensor& q, KeyChunks& keys,
                                         KeyChunks& values, const Shape& shape, const Tile& tile,
                                         int64_t head, Tensor& out, float* sums) {
  const auto columns = tile.padded(shape), width = shape.width, summed = shape.values,
             totals = round_up(columns, shape.strip);
  auto* queries = scratch<Number>(Scratch::queries, columns * width);
  auto* panels = scratch<std::byte>(Scratch::query_panels, panel_bytes(kernel, width, columns));
  auto* scores = scratch<float>(Scratch::scores, kChunkKeys * shape.strip);
  auto* p = scratch<Number>(Scratch::probabilities, kChunkKeys * shape.strip);
  auto* total = scratch<float>(Scratch::sums, totals * (summed + 3));  // of strip after strip
  auto *top = total + totals * summed, *running = top + totals, *factors = running + totals;
  gather(q, shape, width, tile, head, queries);
  pack_panels(kernel, matrix_of(queries, columns, width, width, false), 0, columns, panels);
  keys.follow(tile.block->keys, tile.keys());
  values.follow(tile.block->keys, tile.keys());
  std::fill_n(top, totals, kNoScore);
  std::fill_n(running, totals, 0.0f);
  each_chunk(shape, tile, [&](int64_t index) {
    each_strip_of(index, shape, tile, [&](const Strip& strip) {
      score<Number>(kernel, keys.rows(index, strip.begin), panels, width, strip, scores);
      auto* sum = total + strip.first * summed;
      loops_of<Number>().softmax(block_of(scores, shape, tile, index, strip), p, strip.stride,
                                 top + strip.first, running + strip.first, factors);
      for (int64_t j = 0; !strip.fresh && j < summed; ++j)
        loops_of<float>().times(sum + j * strip.stride, factors, sum + j * strip.stride, strip.columns);
      collect(kernel, values.transposed(index, strip.begin), p, strip.stride, summed, strip, sum,
              !strip.fresh);
    });
  });
  row_loops().scores.finish(top, running, totals);
  each_strip(shape, tile, [&](const Strip& strip) {
    scatter<Number>(kernel, total + strip.first * summed, running + strip.first, shape, summed, tile, strip,
                    head, out);
  });
  tile.each_query(shape, head, 0, tile.columns(shape), [&](int64_t c, int64_t place, int64_t count) {
    std::copy_n(top + c, count, sums + place);
  });
}

int64_t most_keys(const std::vector<AttendBlock>& blocks) {
  int64_t most = 0;
  for (const auto& block : blocks) most = std::max(most, block.key_count());
  return most;
}

// out [N,H*D], log_sums fp32 [N,H].
template <class Number> void forward(const GemmKernel& kernel, const Tensor& q, const Stored& k,
                                     const Stored& v, Shape shape, const std::vector<AttendBlock>& blocks,
                                     Tensor& out, Tensor& log_sums) {
  shape.strip = strip_of(kernel);
  const auto tiles = tiles_of(blocks, shape);
  const auto slices = slices_of(tiles, shape);
  auto* sums = log_sums.mutable_data_ptr<float>();
  const auto direct = [&](const Tile& tile) { return tile.columns(shape) <= kDirectColumns; };
  const auto capacity = std::all_of(tiles.begin(), tiles.end(), direct) ? 0 : most_keys(blocks);
  each_slice(slices.size(), [&](size_t slice) {
    KeyChunks keys(kernel, k, Layout::rows, capacity), values(kernel, v, Layout::transposed, capacity);
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      keys.use_head(head);
      values.use_head(head);
      for (size_t i = slices[slice].first; i < slices[slice].second; ++i) {
        if (direct(tiles[i])) attend_directly(q, k, v, shape, tiles[i], head, out, sums);
        else attend_tile<Number>(kernel, q, keys, values, shape, tiles[i], head, out, sums);
      }
    }
  });
}

// Gradients of keys [begin, ...) of a chunk: out [keys, width] += p [keys, columns] times rows [columns,
// width] that are packed, over the columns that see any of these keys.
void add_gradient(const GemmKernel& kernel, const void* p, int64_t p_stride, int64_t keys, int64_t first,
                  int64_t last, int64_t columns, const std::byte* panels, int64_t width, float* out) {
  const auto bytes = operand_bytes(kernel.operand);
  for (int64_t at = 0; at < width; at += kernel.width, panels += panel_bytes(kernel, columns, kernel.width)) {
    const auto some = std::min(kernel.width, width - at);
    const GemmSegment segment{static_cast<const std::byte*>(p) + first * bytes, p_stride * bytes,
                              (last - first) / kernel.pair, panels + panel_bytes(kernel, first, some)};
    kernel.multiply(&segment, 1, keys,
                    {out + at, width * 4, Operand::f32, out + at, width * 4, nullptr, some});
  }
}

template <class Number> void backward_tile(const GemmKernel& kernel, const Tensor& dout, const Tensor& q,
                                           const Tensor& out, const float* sums, KeyChunks& keys,
                                           KeyChunks& values, const Shape& shape, const Tile& tile,
                                           int64_t head, Tensor& dq, PathGradient& dk, PathGradient& dv) {
  const auto columns = tile.padded(shape), width = shape.width, summed = shape.values,
             stride = round_up(columns, shape.strip);
  auto* queries = scratch<Number>(Scratch::queries, columns * width);
  auto* upstream = scratch<Number>(Scratch::upstream, columns * summed);
  gather(q, shape, width, tile, head, queries);
  gather(dout, shape, summed, tile, head, upstream);
  const auto packed = [&](Scratch use, const Number* rows, int64_t wide, bool turned) {
    auto* panels = scratch<std::byte>(
        use, turned ? panel_bytes(kernel, columns, wide) : panel_bytes(kernel, wide, columns));
    pack_panels(kernel, matrix_of(rows, columns, wide, wide, turned), 0, turned ? wide : columns, panels);
    return panels;
  };
  const auto *query_columns = packed(Scratch::query_panels, queries, width, false),
             *upstream_columns = packed(Scratch::upstream_panels, upstream, summed, false);
  const auto *query_rows = packed(Scratch::query_rows, queries, width, true),
             *upstream_rows = packed(Scratch::upstream_rows, upstream, summed, true);
  auto* scores = scratch<float>(Scratch::scores, kChunkKeys * shape.strip);
  auto* slopes = scratch<float>(Scratch::slopes, kChunkKeys * shape.strip);
  auto* p = scratch<Number>(Scratch::probabilities, kChunkKeys * stride);
  auto* ds = scratch<Number>(Scratch::gradients, kChunkKeys * stride);
  auto* total = scratch<float>(Scratch::sums, stride * (width + 2));  // of strip after strip
  auto *log_sums = total + stride * width, *shared = log_sums + stride;
  std::fill_n(log_sums, 2 * stride, 0.0f);
  with_element(q.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    tile.each_query(shape, head, 0, tile.columns(shape), [&](int64_t c, int64_t place, int64_t count) {
      prefetch(elements<Element>(out) + (place + kRowsAhead * shape.heads) * summed,
               count * summed * static_cast<int64_t>(sizeof(Element)));
      std::copy_n(sums + place, count, log_sums + c);
      loops_of<Element>().dots(elements<Element>(dout) + place * summed,
                               elements<Element>(out) + place * summed, count, summed,
                               shared + c);  // sum_j p_j dp_j = dO . O
    });
  });
  for (auto* each : {&keys, &values}) each->follow(tile.block->keys, tile.keys());
  for (auto* each : {&dk, &dv}) each->follow(&tile.block->keys, tile.keys());
  each_chunk(shape, tile, [&](int64_t index) {
    int64_t begin = kChunkKeys, end = 0;  // of the keys that any strip sees
    each_strip_of(index, shape, tile, [&](const Strip& strip) {
      score<Number>(kernel, keys.rows(index, strip.begin), query_columns, width, strip, scores);
      score<Number>(kernel, values.rows(index, strip.begin), upstream_columns, summed, strip, slopes);
      auto *own_p = p + strip.begin * stride + strip.first, *own_ds = ds + strip.begin * stride + strip.first;
      loops_of<Number>().softmax_backward(block_of(scores, shape, tile, index, strip), slopes,
                                          log_sums + strip.first, shared + strip.first, own_p, own_ds,
                                          stride);
      for (int64_t key = strip.keys(), last = round_up(key, kKeyStep); key < last; ++key)
        for (auto* rest : {own_p, own_ds}) std::fill_n(rest + key * stride, strip.columns, Number{});
      collect(kernel, keys.transposed(index, strip.begin), own_ds, stride, width, strip,
              total + strip.first * width, !strip.fresh);
      begin = std::min(begin, strip.begin), end = std::max(end, strip.end);
    });
    const auto diagonal = diagonal_of(tile, index);
    for (int64_t key = begin; key < end; key += kKeyStep) {
      const auto count = std::min(kKeyStep, end - key), last_key = key + count - 1;
      const auto first = std::clamp<int64_t>((key - diagonal) * shape.group, 0, columns) / 2 * 2;
      const auto last =
          shape.window > 0
              ? round_up(std::clamp<int64_t>((last_key - diagonal + shape.window) * shape.group, 0, columns),
                         2)
              : columns;
      const auto add = [&](const Number* left, const std::byte* right, int64_t wide, float* into) {
        add_gradient(kernel, left + key * stride, stride, round_up(count, 8), first, last, columns, right,
                     wide, into);
      };
      add(p, upstream_rows, summed, dv.at(index * kChunkKeys + key));
      add(ds, query_rows, width, dk.at(index * kChunkKeys + key));
    }
  });
  each_strip(shape, tile, [&](const Strip& strip) {
    scatter<Number>(kernel, total + strip.first * width, nullptr, shape, width, tile, strip, head, dq);
  });
}

// dq in q's type; dk [N,K,D] and dv [N,K,V] fp32, zero at entry: shared prefixes collect the gradients of all
// their branches.
template <class Number>
void backward(const GemmKernel& kernel, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
              const Tensor& out, const Tensor& log_sums, Shape shape, const std::vector<AttendBlock>& blocks,
              Tensor& dq, Tensor& dk, Tensor& dv) {
  shape.strip = strip_of(kernel);
  const auto tiles = tiles_of(blocks, shape);
  const auto slices = slices_of(tiles, shape);
  const auto* sums = log_sums.const_data_ptr<float>();
  const auto capacity = most_keys(blocks), padded = round_up(capacity, kChunkKeys);
  struct Part {
    KeyChunks keys, values;
    PathGradient dk, dv;
  };
  std::vector<Part> parts;
  for (size_t s = 0; s < slices.size(); ++s)
    parts.push_back(
        {KeyChunks(kernel, k, Layout::both, capacity), KeyChunks(kernel, v, Layout::rows, capacity),
         PathGradient(dk, padded, slices.size() > 1), PathGradient(dv, padded, slices.size() > 1)});
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    each_slice(slices.size(), [&](size_t s) {
      auto& part = parts[s];
      for (auto* each : {&part.keys, &part.values}) each->use_head(head);
      for (auto* each : {&part.dk, &part.dv}) each->use_head(head);
      for (size_t i = slices[s].first; i < slices[s].second; ++i)
        backward_tile<Number>(kernel, dout, q, out, sums, part.keys, part.values, shape, tiles[i], head, dq,
                              part.dk, part.dv);
      part.dk.follow(nullptr, 0);
      part.dv.follow(nullptr, 0);
    });
    for (auto& part : parts) {  // in order, whatever thread was first
      part.dk.add_own();
      part.dv.add_own();
    }
  }
}

// Two products a pair of query and key forward, five backward.
OperationWork work_of(const Tensor& q, const Tensor& k, const Shape& shape,
                      const std::vector<AttendBlock>& blocks) {
  double pairs = 0;
  if (profiling())
    for (const auto& block : blocks)
      for (int64_t i = 0, offset = block.key_count() - (block.q_end - block.q_begin);
           i < block.q_end - block.q_begin; ++i)
        pairs += static_cast<double>(shape.last(offset, i) - shape.first(offset, i));
  const double keys = 2 * pairs * static_cast<double>(shape.heads * shape.width),
               values = 2 * pairs * static_cast<double>(shape.heads * shape.values),
               bytes = (bytes_of(q) + bytes_of(k)) *
                       (1 + static_cast<double>(shape.values) / static_cast<double>(shape.width));
  return {"attend", keys + values, bytes, 3 * keys + 2 * values, 2 * bytes};
}

}  // namespace

Tensor attend(const Tensor& q_input, const Tensor& k_input, const Tensor& v_input, const AttendRule& rule,
              const Pass& pass) {
  if (pass.before_attend) pass.before_attend(rule, q_input, k_input);
  const auto q = q_input.contiguous(), k = k_input.contiguous(), v = v_input.contiguous();
  Shape shape{q.size(1),
              k.size(1),
              q.size(2),
              v.size(2),
              q.size(1) / k.size(1),
              0,
              static_cast<float>(rule.soft_cap),
              rule.window};
  shape.scale =
      static_cast<float>(rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(shape.width)));
  if (shape.group * shape.kv_heads != shape.heads || k.size(2) != shape.width || shape.width % 2 != 0 ||
      shape.values % 2 != 0)
    throw std::logic_error("attend: heads do not divide");
  if (composed(q)) return composed_attend(q, k, v, rule, pass);
  return differentiable(work_of(q, k, shape, pass.blocks), {q, k, v}, [&](bool recorded) -> Computed {
    auto out = at::empty({q.size(0), shape.heads * shape.values}, q.options());
    auto log_sums = at::empty({q.size(0), shape.heads}, at::TensorOptions(at::kFloat));
    std::optional<Stored> keys, values;
    if (pass.cache) {
      if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
      auto& cache = *pass.cache;
      const auto layer = static_cast<size_t>(rule.layer);
      const bool codes = !cache.key_scales.empty();
      store_in_cache(k, pass.cache_rows, cache.keys.at(layer), codes ? &cache.key_scales.at(layer) : nullptr);
      const auto key_scales = codes ? cache.key_scales.at(layer) : Tensor();
      keys.emplace(cache.keys.at(layer), key_scales);
      if (cache.values.empty()) {  // they are the front of the keys
        values.emplace(cache.keys.at(layer), key_scales, shape.values);
      } else {
        store_in_cache(v, pass.cache_rows, cache.values.at(layer),
                       codes ? &cache.value_scales.at(layer) : nullptr);
        values.emplace(cache.values.at(layer), codes ? cache.value_scales.at(layer) : Tensor());
      }
    } else {
      keys.emplace(k);
      values.emplace(v);
    }
    with_kernel(q.scalar_type(), [&](auto operand, const GemmKernel& kernel) {
      forward<decltype(operand)>(kernel, q, *keys, *values, shape, pass.blocks, out, log_sums);
    });
    if (!recorded) return {out, nullptr};
    return {out,
            [=, blocks = pass.blocks, q = q.detach(), k = k.detach(), v = v.detach(),
             out = out.detach()](const Tensor& dout) -> Tensors {
              auto dq = at::empty(q.sizes(), q.options());
              auto dk = at::zeros(k.sizes(), at::TensorOptions(at::kFloat)),
                   dv = at::zeros(v.sizes(), at::TensorOptions(at::kFloat));
              with_kernel(q.scalar_type(), [&](auto operand, const GemmKernel& kernel) {
                backward<decltype(operand)>(kernel, dout, q, k, v, out, log_sums, shape, blocks, dq, dk, dv);
              });
              return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
            }};
  });
}

}  // namespace retort
