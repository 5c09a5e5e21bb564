#include "ops/choose_keys.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "ops/attend_parts.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/team.h"

namespace retort {
namespace {

constexpr int64_t kQueries = 16, kKeys = 64;  // worked on at a time: their scores by head stay in cache

// Queries [begin, end) of a block.
struct Tile {
  const AttendBlock* block;
  int64_t begin, end;

  int64_t offset() const { return block->key_count() - (block->q_end - block->q_begin); }
  int64_t row(int64_t i) const { return block->q_begin + begin + i; }
  int64_t seen(int64_t i) const { return offset() + begin + i + 1; }  // by its query `i`
  int64_t rows() const { return end - begin; }
};

std::vector<Tile> tiles_of(const std::vector<AttendBlock>& blocks) {
  std::vector<Tile> tiles;
  for (const auto& block : blocks)
    for (int64_t begin = 0, rows = block.q_end - block.q_begin; begin < rows; begin += kQueries)
      tiles.push_back({&block, begin, std::min(rows, begin + kQueries)});
  return tiles;
}

// Numbers that rise as `score` falls; what is no number comes last.
uint32_t falling(float score) {
  if (score != score) return 0xFFFFFFFF;
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  return bits & 0x80000000 ? bits : ~(bits | 0x80000000);
}

// The places of the `top` largest of `count` scores, rising.
void choose(const float* scores, int64_t count, int64_t top, std::vector<uint64_t>& order) {
  order.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    order[static_cast<size_t>(i)] = uint64_t{falling(scores[i])} << 32 | static_cast<uint64_t>(i);
  std::nth_element(order.begin(), order.begin() + top, order.end());
  order.resize(static_cast<size_t>(top));
  for (auto& each : order) each &= 0xFFFFFFFF;
  std::sort(order.begin(), order.end());
}

struct Indexed {
  const Tensor& q;
  const float* weights;
  const Stored& keys;
  int64_t heads, width;
};

// index[query, key] of a tile; scores by head lie [keys, heads, queries], so that sums over heads run along
// vectors of queries.
template <class Number>
void index_scores(const GemmKernel& kernel, const Indexed& from, const Tile& tile, float* index) {
  const auto rows = tile.rows(), columns = rows * from.heads, width = from.width, keys = tile.seen(rows - 1);
  auto* queries = scratch<Number>(Scratch::queries, columns * width);
  auto* weights = scratch<float>(Scratch::sums, columns + rows);
  auto* sums = weights + columns;
  const auto* in = static_cast<const std::byte*>(from.q.const_data_ptr());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < from.heads; ++j) {
      const auto place = tile.row(i) * from.heads + j;
      to_operands(in + place * width * from.q.element_size(), from.q.scalar_type(), operand_of(Number{}),
                  queries + (j * rows + i) * width, width);
      weights[j * rows + i] = from.weights[place];
    }
  auto* panels = scratch<std::byte>(Scratch::query_panels, panel_bytes(kernel, width, columns));
  pack_panels(kernel, matrix_of(queries, columns, width, width, false), 0, columns, panels);
  auto* some = scratch<Number>(Scratch::keys_to_transpose, kKeys * width + 1);
  auto* room = scratch<float>(Scratch::key_row, width);
  auto* scores = scratch<float>(Scratch::scores, kKeys * columns);
  for (int64_t first = 0; first < keys; first += kKeys) {
    const auto count = std::min(kKeys, keys - first);
    each_run(tile.block->keys, first, first + count, [&](int64_t at, int64_t row, int64_t run) {
      for (int64_t i = 0; i < run; ++i)
        from.keys.copy_row(row + i, 0, operand_of(Number{}), some + (at - first + i) * width, room);
    });
    some[count * width] = Number{};
    multiply_panels(kernel, rows_of(some, width), count, width, panels, columns,
                    {scores, columns, Operand::f32});
    for (int64_t key = 0; key < count; ++key) {
      std::fill_n(sums, rows, 0.0f);
      const auto *s = scores + key * columns, *w = weights;
      for (int64_t j = 0; j < from.heads; ++j, s += rows, w += rows)
        for (int64_t i = 0; i < rows; ++i) sums[i] += w[i] * std::max(s[i], 0.0f);
      for (int64_t i = 0; i < rows; ++i) index[i * keys + first + key] = sums[i];
    }
  }
}

// The row at each place of a path that is asked for; `places` rise.
template <class Place>
void rows_at(const std::vector<KeyRange>& path, const std::vector<Place>& places, int32_t* out) {
  auto next = places.begin();
  int64_t before = 0;
  for (const auto& range : path) {
    const int64_t count = range.end - range.begin;
    for (; next != places.end() && static_cast<int64_t>(*next) < before + count; ++next)
      *out++ = static_cast<int32_t>(range.begin + static_cast<int64_t>(*next) - before);
    before += count;
  }
}

}  // namespace

bool leaves_keys_out(const Pass& pass, int64_t top) {
  return std::ranges::any_of(pass.blocks, [&](const auto& block) { return block.key_count() > top; });
}

void store_index_keys(const Tensor& k, int64_t layer, const Pass& pass) {
  if (!pass.cache) return;
  auto& cache = *pass.cache;
  const auto at = static_cast<size_t>(layer);
  store_in_cache(k.contiguous(), pass.cache_rows, cache.index_keys.at(at),
                 cache.index_scales.empty() ? nullptr : &cache.index_scales.at(at));
}

std::shared_ptr<const ChosenKeys> choose_keys(const Tensor& q_input, const Tensor& k_input,
                                              const Tensor& weights_input, int64_t top, int64_t layer,
                                              const Pass& pass) {
  const at::NoGradGuard no_graph;
  const auto q = q_input.contiguous(), k = k_input.contiguous(), weights = weights_input.contiguous();
  if (top < 1 || k.size(1) != 1 || k.size(2) != q.size(2) || weights.scalar_type() != at::kFloat ||
      weights.numel() != q.size(0) * q.size(1))
    throw std::logic_error("an indexer has one key for all heads, and an fp32 weight for each");
  if (composed(q)) return composed_choose_keys(q, k, weights, top, layer, pass);
  const auto tiles = tiles_of(pass.blocks);
  auto chosen = std::make_shared<ChosenKeys>();
  chosen->first.assign(static_cast<size_t>(q.size(0)) + 1, 0);
  double pairs = 0;
  for (const auto& tile : tiles)
    for (int64_t i = 0; i < tile.rows(); ++i) {
      chosen->first[static_cast<size_t>(tile.row(i)) + 1] = std::min(top, tile.seen(i));
      if (tile.seen(i) > top) pairs += static_cast<double>(tile.seen(i));
    }
  for (size_t i = 1; i < chosen->first.size(); ++i) chosen->first[i] += chosen->first[i - 1];
  chosen->rows.resize(static_cast<size_t>(chosen->first.back()));
  const auto at = static_cast<size_t>(layer);
  const auto stored =
      pass.cache ? Stored(pass.cache->index_keys.at(at),
                          pass.cache->index_scales.empty() ? Tensor() : pass.cache->index_scales.at(at))
                 : Stored(k);
  const Indexed from{q, weights.const_data_ptr<float>(), stored, q.size(1), q.size(2)};
  const OperationWork work{"choose keys", 2 * pairs * static_cast<double>(from.heads * from.width),
                           bytes_of(q) + bytes_of(k)};
  const Span span(work.forward());
  with_kernel(q.scalar_type(), [&](auto operand, const GemmKernel& kernel) {
    over_range(static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end) {
      std::vector<float> index;
      std::vector<uint64_t> order;
      for (auto t = begin; t < end; ++t) {
        const auto& tile = tiles[static_cast<size_t>(t)];
        const auto keys = tile.seen(tile.rows() - 1);
        if (keys > top) {
          index.resize(static_cast<size_t>(tile.rows() * keys));
          index_scores<decltype(operand)>(kernel, from, tile, index.data());
        }
        for (int64_t i = 0; i < tile.rows(); ++i) {
          if (tile.seen(i) > top) {
            choose(index.data() + i * keys, tile.seen(i), top, order);
          } else {
            order.resize(static_cast<size_t>(tile.seen(i)));
            for (size_t place = 0; place < order.size(); ++place) order[place] = place;
          }
          rows_at(tile.block->keys, order,
                  chosen->rows.data() + chosen->first[static_cast<size_t>(tile.row(i))]);
        }
      }
    });
  });
  return chosen;
}

}  // namespace retort
