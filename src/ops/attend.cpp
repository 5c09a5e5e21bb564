#include "ops/attend.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <stdexcept>

#include "ops/differentiable.h"
#include "ops/row_loops.h"

namespace retort {
namespace {

// Queries are taken this many rows at a time: scores of a tile stay small, and keys after its last row are never touched.
constexpr int64_t kTileRows = 128;

struct Shape {
  int64_t heads, kv_heads, width, group;   // group = heads / kv_heads
  float scale, cap;
  int64_t window;
};

// Queries [begin, end) of a block of `rows` queries and `keys` keys, and the keys [low, high) that any of them sees.
struct Tile {
  int64_t begin, end, low, high, offset;   // query i of the block is at key index offset + i
  int64_t first(int64_t i, int64_t window) const { return window > 0 ? std::max<int64_t>(0, offset + i - window + 1) - low : 0; }
  int64_t last(int64_t i) const { return offset + i + 1 - low; }
};

template <class Body>
void each_tile(int64_t rows, int64_t keys, int64_t window, Body&& body) {
  const int64_t offset = keys - rows;
  for (int64_t begin = 0; begin < rows; begin += kTileRows) {
    const auto end = std::min(rows, begin + kTileRows);
    body(Tile{begin, end, window > 0 ? std::max<int64_t>(0, offset + begin - window + 1) : 0, offset + end, offset});
  }
}

// Keys or values [K, capacity, D] in fp32 of the block at hand. Rows that the next block shares with this one (a common
// path from the root) are gathered once.
struct Gathered {
  Tensor rows;
  std::vector<KeyRange> ranges;
};

int64_t common_rows(const std::vector<KeyRange>& a, const std::vector<KeyRange>& b) {
  int64_t common = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].begin != b[i].begin) break;
    common += std::min(a[i].end, b[i].end) - a[i].begin;
    if (a[i].end != b[i].end) break;
  }
  return common;
}

// Calls with(index in the concatenation, row) for rows of `ranges` from index `from` on.
template <class With>
void each_key(const std::vector<KeyRange>& ranges, int64_t from, With&& with) {
  int64_t index = 0;
  for (const auto& range : ranges) {
    const int64_t count = range.end - range.begin;
    for (int64_t i = std::max<int64_t>(0, from - index); i < count; ++i) with(index + i, range.begin + i);
    index += count;
  }
}

template <class Element>
void gather_keys(Gathered& into, const std::vector<KeyRange>& ranges, const Tensor& source, int64_t from) {
  const int64_t kv_heads = into.rows.size(0), capacity = into.rows.size(1), width = into.rows.size(2);
  const auto* in = elements<Element>(source);
  auto* out = into.rows.mutable_data_ptr<float>();
  const auto& loops = loops_of<Element>();
  each_key(ranges, from, [&](int64_t index, int64_t row) {
    for (int64_t g = 0; g < kv_heads; ++g) loops.to_float(in + (row * kv_heads + g) * width, 1.0f, out + (g * capacity + index) * width, width);
  });
  into.ranges = ranges;
}

// Rows [begin, end) of x [N,H,D] as [K, group * rows, D] fp32: row (h, i) of a key/value head is its query head h, query i.
template <class Element>
void gather_queries(const Element* x, const Shape& shape, int64_t begin, int64_t end, float* out) {
  const int64_t rows = end - begin;
  const auto& loops = loops_of<Element>();
  for (int64_t h = 0; h < shape.heads; ++h)
    for (int64_t i = 0; i < rows; ++i) loops.to_float(x + ((begin + i) * shape.heads + h) * shape.width, 1.0f, out + (h * rows + i) * shape.width, shape.width);
}
template <class Element>
void scatter_queries(const float* in, const Shape& shape, int64_t begin, int64_t end, Element* x) {
  const int64_t rows = end - begin;
  const auto& loops = loops_of<Element>();
  for (int64_t h = 0; h < shape.heads; ++h)
    for (int64_t i = 0; i < rows; ++i) loops.from_float(in + (h * rows + i) * shape.width, x + ((begin + i) * shape.heads + h) * shape.width, shape.width);
}

int64_t most_keys(const std::vector<AttendBlock>& blocks) {
  int64_t most = 0;
  for (const auto& block : blocks) most = std::max(most, block.key_count());
  return most;
}

Tensor scratch(std::initializer_list<int64_t> sizes) { return at::empty(at::IntArrayRef(sizes), at::TensorOptions(at::kFloat)); }

// One score row per (query head, query): the row of scores and its part of the tile's keys.
template <class Row>
void each_score_row(const Shape& shape, const Tile& tile, Row&& row) {
  const int64_t rows = tile.end - tile.begin, columns = tile.high - tile.low;
  at::parallel_for(0, shape.heads * rows, std::max<int64_t>(1, 16384 / columns), [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      const auto i = tile.begin + r % rows;
      row(r * columns, columns, tile.first(i, shape.window), tile.last(i), r / rows, i);
    }
  });
}

// out [N,H*D], log_sums fp32 [N,H].
template <class Element>
void forward(const Tensor& q, const Tensor& k, const Tensor& v, const Shape& shape, const std::vector<AttendBlock>& blocks, Tensor& out, Tensor& log_sums) {
  const auto capacity = most_keys(blocks);
  Gathered keys{scratch({shape.kv_heads, capacity, shape.width}), {}}, values{scratch({shape.kv_heads, capacity, shape.width}), {}};
  const auto& loops = row_loops().scores;
  auto* sums = log_sums.mutable_data_ptr<float>();
  for (const auto& block : blocks) {
    const auto common = common_rows(keys.ranges, block.keys);
    gather_keys<Element>(keys, block.keys, k, common);
    gather_keys<Element>(values, block.keys, v, common);
    each_tile(block.q_end - block.q_begin, block.key_count(), shape.window, [&](const Tile& tile) {
      const auto rows = tile.end - tile.begin, columns = tile.high - tile.low;
      auto queries = scratch({shape.kv_heads, shape.group * rows, shape.width});
      gather_queries(elements<Element>(q), shape, block.q_begin + tile.begin, block.q_begin + tile.end, queries.mutable_data_ptr<float>());
      auto scores = at::bmm(queries, keys.rows.narrow(1, tile.low, columns).transpose(1, 2));   // [K, group*rows, columns]
      auto* score = scores.mutable_data_ptr<float>();
      each_score_row(shape, tile, [&](int64_t at, int64_t count, int64_t first, int64_t last, int64_t head, int64_t i) {
        sums[(block.q_begin + i) * shape.heads + head] = loops.probabilities(score + at, count, first, last, shape.scale, shape.cap);
      });
      at::bmm_out(queries, scores, values.rows.narrow(1, tile.low, columns));
      scatter_queries(queries.const_data_ptr<float>(), shape, block.q_begin + tile.begin, block.q_begin + tile.end, mutable_elements<Element>(out));
    });
  }
}

// Adds rows [from, ...) of the path's fp32 gradients [K, capacity, D] to total [N,K,D] and clears them.
void flush(Tensor& path, const std::vector<KeyRange>& ranges, int64_t from, Tensor& total) {
  const int64_t kv_heads = path.size(0), capacity = path.size(1), width = path.size(2);
  auto *in = path.mutable_data_ptr<float>(), *out = total.mutable_data_ptr<float>();
  const auto& loops = row_loops().scores;
  each_key(ranges, from, [&](int64_t index, int64_t row) {
    for (int64_t g = 0; g < kv_heads; ++g) {
      auto* source = in + (g * capacity + index) * width;
      loops.add_scaled(out + (row * kv_heads + g) * width, source, 1.0f, width);
      std::fill(source, source + width, 0.0f);
    }
  });
}

// dq in q's type; dk, dv [N,K,D] fp32, zero at entry: shared prefixes collect the gradients of all their branches.
template <class Element>
void backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_sums, const Shape& shape,
              const std::vector<AttendBlock>& blocks, Tensor& dq, Tensor& dk, Tensor& dv) {
  const auto capacity = most_keys(blocks);
  Gathered keys{scratch({shape.kv_heads, capacity, shape.width}), {}}, values{scratch({shape.kv_heads, capacity, shape.width}), {}};
  auto path_dk = at::zeros({shape.kv_heads, capacity, shape.width}, at::TensorOptions(at::kFloat)), path_dv = at::zeros_like(path_dk);
  const auto& loops = row_loops().scores;
  const auto* sums = log_sums.const_data_ptr<float>();
  for (const auto& block : blocks) {
    const auto common = common_rows(keys.ranges, block.keys);
    flush(path_dk, keys.ranges, common, dk);
    flush(path_dv, keys.ranges, common, dv);
    gather_keys<Element>(keys, block.keys, k, common);
    gather_keys<Element>(values, block.keys, v, common);
    each_tile(block.q_end - block.q_begin, block.key_count(), shape.window, [&](const Tile& tile) {
      const auto rows = tile.end - tile.begin, columns = tile.high - tile.low;
      auto queries = scratch({shape.kv_heads, shape.group * rows, shape.width}), upstream = at::empty_like(queries);
      gather_queries(elements<Element>(q), shape, block.q_begin + tile.begin, block.q_begin + tile.end, queries.mutable_data_ptr<float>());
      gather_queries(elements<Element>(dout), shape, block.q_begin + tile.begin, block.q_begin + tile.end, upstream.mutable_data_ptr<float>());
      const auto tile_keys = keys.rows.narrow(1, tile.low, columns), tile_values = values.rows.narrow(1, tile.low, columns);
      auto p = at::bmm(queries, tile_keys.transpose(1, 2)), ds = at::bmm(upstream, tile_values.transpose(1, 2));
      auto *score = p.mutable_data_ptr<float>(), *slope = ds.mutable_data_ptr<float>();
      each_score_row(shape, tile, [&](int64_t at, int64_t count, int64_t first, int64_t last, int64_t head, int64_t i) {
        loops.backward(score + at, slope + at, count, first, last, shape.scale, shape.cap, sums[(block.q_begin + i) * shape.heads + head]);
      });
      path_dv.narrow(1, tile.low, columns).baddbmm_(p.transpose(1, 2), upstream);
      path_dk.narrow(1, tile.low, columns).baddbmm_(ds.transpose(1, 2), queries);
      at::bmm_out(queries, ds, tile_keys);
      scatter_queries(queries.const_data_ptr<float>(), shape, block.q_begin + tile.begin, block.q_begin + tile.end, mutable_elements<Element>(dq));
    });
  }
  flush(path_dk, keys.ranges, 0, dk);
  flush(path_dv, keys.ranges, 0, dv);
}

void store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache) {
  const auto index = at::tensor(std::vector<int64_t>(where.begin(), where.end()), at::TensorOptions(at::kLong));
  cache.index_copy_(0, index, rows.to(cache.scalar_type()));
}

}  // namespace

Tensor attend(const Tensor& q_input, const Tensor& k_input, const Tensor& v_input, const AttendRule& rule, const Pass& pass) {
  auto q = q_input.contiguous(), k = k_input.contiguous(), v = v_input.contiguous();
  Shape shape{q.size(1), k.size(1), q.size(2), q.size(1) / k.size(1), 0, static_cast<float>(rule.soft_cap), rule.window};
  shape.scale = static_cast<float>(rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(shape.width)));
  if (shape.group * shape.kv_heads != shape.heads || v.size(2) != shape.width) throw std::logic_error("attend: heads do not divide");
  return differentiable({q, k, v}, [&](bool recorded) -> Computed {
    auto out = at::empty({q.size(0), shape.heads * shape.width}, q.options());
    auto log_sums = at::empty({q.size(0), shape.heads}, at::TensorOptions(at::kFloat));
    if (pass.cache) {
      if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
      auto &keys = pass.cache->keys.at(static_cast<size_t>(rule.layer)), &values = pass.cache->values.at(static_cast<size_t>(rule.layer));
      store_in_cache(k, pass.cache_rows, keys);
      store_in_cache(v, pass.cache_rows, values);
      if (keys.scalar_type() != q.scalar_type()) throw std::logic_error("attend: the cache has the compute type");
      k = keys;
      v = values;
    }
    with_element(q.scalar_type(), [&](auto element) { forward<decltype(element)>(q, k, v, shape, pass.blocks, out, log_sums); });
    if (!recorded) return {out, nullptr};
    return {out, [=, blocks = pass.blocks, q = q.detach(), k = k.detach(), v = v.detach()](const Tensor& dout) -> Tensors {
      auto dq = at::empty(q.sizes(), q.options());
      auto dk = at::zeros(k.sizes(), at::TensorOptions(at::kFloat)), dv = at::zeros_like(dk);
      with_element(q.scalar_type(), [&](auto element) { backward<decltype(element)>(dout, q, k, v, log_sums, shape, blocks, dq, dk, dv); });
      return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
    }};
  });
}

}  // namespace retort
