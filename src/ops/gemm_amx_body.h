// The matrix products of GemmKernel and Int8Kernel on tiles (AMX). Their panels already are what a tile of
// the right operand is read from: 16 cells of K by 16 columns. `Tiles` is the unit that does it: the CPU's,
// or one in software by which tests run what this machine cannot. Includes gemm_body.h for its packers.
//
//   struct Tiles {
//     static void configure(const TileShapes&);      // all tiles become zero
//     template <int t> static void zero();
//     template <int t> static void load(const void* rows, int64_t row_bytes);
//     template <int t> static void store(void* rows, int64_t row_bytes);
//     template <int c, int a, int b> static void add_bf16();   // c += a b; pairs of bf16, sums in fp32
//     template <int c, int a, int b> static void add_int8();   // c += a b; fours of unsigned by signed
//     bytes, sums in int32 static void release();
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
  template <bool kIntegers, int... r, int... w, int... s>
  __attribute__((always_inline)) static void add(const char* a, int64_t a_row_bytes, const char* b,
                                                 std::integer_sequence<int, r...>,
                                                 std::integer_sequence<int, w...>,
                                                 std::integer_sequence<int, s...>) {
    (Tiles::template load<kRight + w>(b + w * kLanes * 4, W * kLanes * 4), ...);
    (Tiles::template load<kLeft + r>(a + r * kTileRows * a_row_bytes, a_row_bytes), ...);
    (multiply<kIntegers, s>(), ...);
  }

  // `cells` of K: whole tiles in place, what is left through copies filled up with zeros.
  template <bool kIntegers>
  static void add_cells(const char* a, int64_t a_row_bytes, int64_t rows, const char* b, int64_t cells) {
    for (; cells >= C; cells -= C, a += C * 4, b += C * W * kLanes * 4)
      add<kIntegers>(a, a_row_bytes, b, EachLeft{}, EachRight{}, EachSum{});
    if (cells == 0) return;
    alignas(64) char left[R * kTileRows][C * 4] = {}, right[C][W * kLanes * 4] = {};
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(left[r], a + r * a_row_bytes, static_cast<size_t>(cells * 4));
    std::memcpy(right, b, static_cast<size_t>(cells * W * kLanes * 4));
    add<kIntegers>(left[0], C * 4, right[0], EachLeft{}, EachRight{}, EachSum{});
  }

  template <int... s>
  __attribute__((always_inline)) static void store(char* sums, std::integer_sequence<int, s...>) {
    (Tiles::template store<s>(sums + (s / W * kTileRows * W + s % W) * kLanes * 4, W * kLanes * 4), ...);
  }
};

template <class Tiles, int R, int W> void bf16_block(const GemmSegment* segments, int64_t count, int64_t row,
                                                     int64_t rows, const GemmStore& store) {
  using Work = Block<Tiles, R, W, 16>;
  Work::zero(typename Work::EachSum{});
  for (const auto* segment = segments; segment != segments + count; ++segment)
    Work::template add_cells<false>(static_cast<const char*>(segment->a) + row * segment->a_row_bytes,
                                    segment->a_row_bytes, rows, static_cast<const char*>(segment->panel),
                                    segment->steps);
  Sums sums[R * kTileRows][W];
  Work::store(reinterpret_cast<char*>(sums), typename Work::EachSum{});
  if (!store.bias && !store.add && store.c_type == Operand::bf16 && store.columns == W * kLanes)
    store_whole_rows(&sums[0][0], rows, W, store, row);
  else store_rows(&sums[0][0], rows, W, store, row);
}

// All rows by a panel of W vectors, R tiles of rows at a time.
template <class Tiles, int W>
void bf16_panel(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
  int64_t row = 0;
  if (rows >= 32) Block<Tiles, 2, W, 16>::configure(32);
  for (; row + 32 <= rows; row += 32) bf16_block<Tiles, 2, W>(segments, count, row, 32, store);
  const int64_t left = rows - row;
  if (left > 16)
    Block<Tiles, 2, W, 16>::configure(left), bf16_block<Tiles, 2, W>(segments, count, row, left, store);
  else if (left > 0)
    Block<Tiles, 1, W, 16>::configure(left), bf16_block<Tiles, 1, W>(segments, count, row, left, store);
}

template <class Tiles>
void multiply_on_tiles(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
  if (store.columns > kLanes) bf16_panel<Tiles, 2>(segments, count, rows, store);
  else bf16_panel<Tiles, 1>(segments, count, rows, store);
  Tiles::release();
}

template <class Tiles> constexpr GemmKernel amx_kernel(const char* name, double (*registers)(int64_t)) {
  return {name,         Operand::bf16,   2,
          kLanes,       2 * kLanes,      multiply_on_tiles<Tiles>,
          pack_rows<2>, pack_columns<2>, transpose<2>,
          registers};
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
    Work::template add_cells<true>(
        reinterpret_cast<const char*>(rows.codes) + row * rows.stride + g * kInt8Group, rows.stride, count,
        panel, cells);
    Work::store(reinterpret_cast<char*>(exact), typename Work::EachSum{});
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
