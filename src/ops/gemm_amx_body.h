// The matrix products of GemmKernel and Int8Kernel on tiles (AMX). Their panels already are what a tile of
// the right operand is read from: 16 cells of K by 16 columns. `Tiles` is the unit that does it: the CPU's,
// or one in software by which tests run what this machine cannot. Includes gemm_body.h for its packers.
//
//   struct Tiles {
//     static void configure(const TileShapes&);      // all tiles become zero
//     template <int t> static void zero();
//     template <int t> static void load(const void* rows, int64_t row_bytes);
//     // The same, but what it reads does not stay in the first-level cache.
//     template <int t> static void load_past(const void* rows, int64_t row_bytes);
//     template <int t> static void store(void* rows, int64_t row_bytes);
//     template <int c, int a, int b> static void add_bf16();   // c += a b; pairs of bf16, sums in fp32
//     // c += a b; fours of unsigned by signed bytes, sums in int32
//     template <int c, int a, int b> static void add_int8();
//     static void release();
//   };
#pragma once
#include <cstdint>
#include <utility>

namespace retort {
namespace {
constexpr int kLanes = 16, kVectors = 2, kRows[] = {8, 8};
}
}  // namespace retort

#include "ops/gemm_body.h"
#include "ops/int8_gemm.h"

namespace retort {
namespace {

// Of the instruction ldtilecfg (Intel's manual, volume 1, "Programming with Intel AMX").
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

constexpr int kTileRows = 16;
constexpr int64_t kInt8Cells = 12;  // of K a tile: half of a group of 96 columns
static_assert(kInt8Group == 2 * kInt8Cells * 4);

// R by W tiles of sums, then R of the left operand, then W of the right one: at most eight.
template <int R, int W> constexpr bool kFits = R* W + R + W <= 8;
template <class Tiles, int R, int W, int C> struct Block {
  static_assert(kFits<R, W>);
  static constexpr int kLeft = R * W, kRight = R * W + R;
  using EachLeft = std::make_integer_sequence<int, R>;
  using EachRight = std::make_integer_sequence<int, W>;
  using EachSum = std::make_integer_sequence<int, R * W>;

  // `rows` of the left operand, more than (R - 1) * 16.
  static void configure(int64_t rows) {
    TileShapes shapes;
    const auto shape = [&](int tile, int64_t some, int64_t cells) {
      shapes.rows[tile] = static_cast<uint8_t>(some),
      shapes.row_bytes[tile] = static_cast<uint16_t>(cells * 4);
    };
    for (int r = 0; r < R; ++r) {
      const int64_t some = rows - r * kTileRows < kTileRows ? rows - r * kTileRows : kTileRows;
      for (int w = 0; w < W; ++w) shape(r * W + w, some, kLanes);
      shape(kLeft + r, some, C);
    }
    for (int w = 0; w < W; ++w) shape(kRight + w, C, kLanes);
    Tiles::configure(shapes);
  }

  template <int... s> __attribute__((always_inline)) static void zero(std::integer_sequence<int, s...>) {
    (Tiles::template zero<s>(), ...);
  }

  template <bool kIntegers, int s> __attribute__((always_inline)) static void multiply() {
    if constexpr (kIntegers) Tiles::template add_int8<s, kLeft + s / W, kRight + s % W>();
    else Tiles::template add_bf16<s, kLeft + s / W, kRight + s % W>();
  }
  template <bool kIntegers, bool kPast, int r, int... w>
  __attribute__((always_inline)) static void add_rows(const char* a, int64_t a_row_bytes) {
    if constexpr (kPast) Tiles::template load_past<kLeft + r>(a + r * kTileRows * a_row_bytes, a_row_bytes);
    else Tiles::template load<kLeft + r>(a + r * kTileRows * a_row_bytes, a_row_bytes);
    (multiply<kIntegers, r * W + w>(), ...);
  }
  template <bool kIntegers, bool kPast, int... r, int... w>
  __attribute__((always_inline)) static void add(const char* a, int64_t a_row_bytes, const char* b,
                                                 std::integer_sequence<int, r...>,
                                                 std::integer_sequence<int, w...>) {
    (Tiles::template load<kRight + w>(b + w * kLanes * 4, W * kLanes * 4), ...);
    (add_rows<kIntegers, kPast, r, w...>(a, a_row_bytes), ...);
  }

  // `cells` of K: whole tiles in place, what is left through copies filled up with zeros. meanwhile() is
  // called once a whole tile: work of the vector units beside that of the tiles'. kPast: the left operand
  // goes past the first-level cache.
  template <bool kIntegers, bool kPast, class Meanwhile>
  __attribute__((always_inline)) static void add_cells(const char* a, int64_t a_row_bytes, int64_t rows,
                                                       const char* b, int64_t cells, Meanwhile&& meanwhile) {
    for (; cells >= C; cells -= C, a += C * 4, b += C * W * kLanes * 4) {
      add<kIntegers, kPast>(a, a_row_bytes, b, EachLeft{}, EachRight{});
      meanwhile();
    }
    if (cells == 0) return;
    alignas(64) char left[R * kTileRows][C * 4] = {}, right[C][W * kLanes * 4] = {};
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(left[r], a + r * a_row_bytes, static_cast<size_t>(cells * 4));
    std::memcpy(right, b, static_cast<size_t>(cells * W * kLanes * 4));
    add<kIntegers, false>(left[0], C * 4, right[0], EachLeft{}, EachRight{});
  }

  template <int... s> __attribute__((always_inline)) static void store(char* sums, int64_t row_bytes,
                                                                       std::integer_sequence<int, s...>) {
    (Tiles::template store<s>(sums + s / W * kTileRows * row_bytes + s % W * kLanes * 4, row_bytes), ...);
  }
};

// As store_rows(), of whole vectors in fp32 that are added to others and have no bias.
__attribute__((noinline)) void add_whole_rows(const Sums* sums, int64_t rows, int64_t vectors,
                                              const GemmStore& store, int64_t first_row) {
  char* c = static_cast<char*>(store.c) + first_row * store.c_row_bytes;
  const char* add = reinterpret_cast<const char*>(store.add) + first_row * store.add_row_bytes;
  for (int64_t r = 0; r < rows; ++r, c += store.c_row_bytes, add += store.add_row_bytes)
    for (int64_t w = 0; w < vectors; ++w) {
      const Sums v = *sums++ + load_sums(add + w * kLanes * 4);
      std::memcpy(c + w * kLanes * 4, &v, sizeof v);
    }
}

// Cells of K of a panel of two vectors that stays in the first-level cache of 48 KiB, if the rows go past it
// (of one of a single vector twice as many). Of longer ones
// all comes from the second level, and rows that lie badly come faster through the first.
constexpr int64_t kNearCells = 24 * 16;

// All rows by a panel of W vectors, R tiles of rows at a time. A block's rows are converted and written while
// the tiles multiply the next block: the vector units have nothing else to do.
template <class Tiles, int W, bool kPast> class PanelProduct {
 public:
  PanelProduct(const GemmSegment* segments, int64_t count, const GemmStore& store)
      : segments_(segments),
        end_(segments + count),
        store_(store),
        whole_(!store.bias && store.columns == W * kLanes),
        write_(!whole_                        ? store_rows
               : !store.add                   ? store_whole_rows
               : store.c_type == Operand::f32 ? add_whole_rows
                                              : store_rows) {}

  void multiply(int64_t rows) {
    int64_t row = 0;
    if (rows >= 32) Block<Tiles, 2, W, 16>::configure(32);
    for (; row + 32 <= rows; row += 32) block<2>(row, 32);
    const int64_t left = rows - row;
    if (left > 16) Block<Tiles, 2, W, 16>::configure(left), block<2>(row, left);
    else if (left > 0) Block<Tiles, 1, W, 16>::configure(left), block<1>(row, left);
    write_rows(finished_ - written_);
  }

 private:
  // Sums that have just left the tiles are not yet in the cache: reading them would hold up what follows. So
  // the first tiles of K pass by, then some rows are written beside each (measured: 0, 2, 4 and 8 tiles).
  static constexpr int64_t kTilesBefore = 8, kRowsATile = 4;

  template <int R> void block(int64_t row, int64_t rows) {
    using Work = Block<Tiles, R, W, 16>;
    Work::zero(typename Work::EachSum{});
    int64_t tiles = 0, fetched = 0;
    const auto meanwhile = [&] {
      // Where these rows will be written comes near.
      for (int64_t i = 0; i < kRowsATile && fetched < rows; ++i, ++fetched)
        __builtin_prefetch(static_cast<const char*>(store_.c) + (row + fetched) * store_.c_row_bytes, 1);
      if (++tiles > kTilesBefore && written_ < finished_) write_rows(kRowsATile);
    };
    for (const auto* segment = segments_; segment != end_; ++segment)
      Work::template add_cells<false, kPast>(
          static_cast<const char*>(segment->a) + row * segment->a_row_bytes, segment->a_row_bytes, rows,
          static_cast<const char*>(segment->panel), segment->steps, meanwhile);
    if (whole_ && !store_.add && store_.c_type == Operand::f32)
      return Work::store(static_cast<char*>(store_.c) + row * store_.c_row_bytes, store_.c_row_bytes,
                         typename Work::EachSum{});
    write_rows(finished_ - written_);
    Work::store(reinterpret_cast<char*>(sums_), W * kLanes * 4, typename Work::EachSum{});
    first_ = row, written_ = 0, finished_ = rows;
  }

  // Of those that are finished, some.
  void write_rows(int64_t some) {
    if (some > finished_ - written_) some = finished_ - written_;
    if (some == 0) return;
    write_(&sums_[written_][0], some, W, store_, first_ + written_);
    written_ += some;
  }

  const GemmSegment *const segments_, *const end_;
  const GemmStore& store_;
  const bool whole_;
  void (*const write_)(const Sums* sums, int64_t rows, int64_t vectors, const GemmStore& store, int64_t row);
  // The block before: its sums, its first row, how many rows it has and how many of them are written.
  Sums sums_[2 * kTileRows][W];
  int64_t first_ = 0, finished_ = 0, written_ = 0;
};

template <class Tiles>
void multiply_on_tiles(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
  int64_t cells = 0;
  for (int64_t i = 0; i < count; ++i) cells += segments[i].steps;
  if (store.columns <= kLanes && cells <= 2 * kNearCells)
    PanelProduct<Tiles, 1, true>(segments, count, store).multiply(rows);
  else if (store.columns <= kLanes) PanelProduct<Tiles, 1, false>(segments, count, store).multiply(rows);
  else if (cells <= kNearCells) PanelProduct<Tiles, 2, true>(segments, count, store).multiply(rows);
  else PanelProduct<Tiles, 2, false>(segments, count, store).multiply(rows);
  Tiles::release();
}

template <class Tiles> constexpr GemmKernel amx_kernel(const char* name, double (*registers)(int64_t)) {
  return {name,
          Operand::bf16,
          2,
          kLanes,
          2 * kLanes,
          multiply_on_tiles<Tiles>,
          pack_rows<2>,
          pack_columns<2>,
          transpose<2>,
          registers,
          16};
}

// Sums of a group leave the tiles as integers; the corrections make them those of signed bytes.
template <class Tiles, int R, int W>
void int8_block(const Int8Rows& rows, int64_t row, int64_t count, const char* panel,
                const int32_t* corrections, const float* factors, float* out, int64_t out_stride, bool add) {
  using Work = Block<Tiles, R, W, kInt8Cells>;
  Cells exact[R * kTileRows][W];
  Sums sums[R * kTileRows][W] = {};
  for (int64_t g = 0; g < rows.groups; ++g, corrections += W * kLanes) {
    const int64_t left = (rows.stride - g * kInt8Group) / 4,
                  cells = left < 2 * kInt8Cells ? left : 2 * kInt8Cells;
    Work::zero(typename Work::EachSum{});
    Work::template add_cells<true, false>(
        reinterpret_cast<const char*>(rows.codes) + row * rows.stride + g * kInt8Group, rows.stride, count,
        panel, cells, [] {});
    Work::store(reinterpret_cast<char*>(exact), W * kLanes * 4, typename Work::EachSum{});
    panel += cells * W * kLanes * 4;
    for (int64_t r = 0; r < count; ++r) {
      const Sums scale = rows.scales[(row + r) * rows.groups + g] - Sums{};
      for (int w = 0; w < W; ++w)
        sums[r][w] +=
            __builtin_convertvector(
                exact[r][w] + load_cells(reinterpret_cast<const char*>(corrections + w * kLanes)), Sums) *
            scale;
    }
  }
  for (int64_t r = 0; r < count; ++r)
    for (int w = 0; w < W; ++w) {
      float* to = out + (row + r) * out_stride + w * kLanes;
      Sums v = sums[r][w];
      if (factors) v *= load_sums(reinterpret_cast<const char*>(factors + w * kLanes));
      if (add) v += load_sums(reinterpret_cast<const char*>(to));
      std::memcpy(to, &v, sizeof v);
    }
}

template <class Tiles, int R, int W> void int8_panel(const Int8Rows& rows, const char* panel,
                                                     const int32_t* corrections, const float* factors,
                                                     float* out, int64_t out_stride, bool add) {
  constexpr int64_t kBlock = R * kTileRows;
  const auto block = [&]<int some>(std::integral_constant<int, some>, int64_t row, int64_t count) {
    int8_block<Tiles, some, W>(rows, row, count, panel, corrections, factors, out, out_stride, add);
  };
  int64_t row = 0;
  if (rows.m >= kBlock) Block<Tiles, R, W, kInt8Cells>::configure(kBlock);
  for (; row + kBlock <= rows.m; row += kBlock) block(std::integral_constant<int, R>{}, row, kBlock);
  const int64_t left = rows.m - row;
  if (left > kTileRows)
    Block<Tiles, R, W, kInt8Cells>::configure(left), block(std::integral_constant<int, R>{}, row, left);
  else if (left > 0)
    Block<Tiles, 1, W, kInt8Cells>::configure(left), block(std::integral_constant<int, 1>{}, row, left);
}

template <class Tiles>
void int8_multiply_on_tiles(const Int8Rows& rows, const void* panel, const int32_t* corrections,
                            const float* factors, int64_t columns, float* out, int64_t out_stride, bool add) {
  const auto* cells = static_cast<const char*>(panel);
  float padded[3 * kLanes] = {};  // the last panel's factors may end before its last vector
  if (factors) std::memcpy(padded, factors, static_cast<size_t>(columns) * 4), factors = padded;
  if (columns > 32) int8_panel<Tiles, 1, 3>(rows, cells, corrections, factors, out, out_stride, add);
  else if (columns > 16) int8_panel<Tiles, 2, 2>(rows, cells, corrections, factors, out, out_stride, add);
  else int8_panel<Tiles, 2, 1>(rows, cells, corrections, factors, out, out_stride, add);
  Tiles::release();
}

}  // namespace
}  // namespace retort
