// The kernels on tiles, with a unit in software that does what Intel's manual says the instructions do
// (volume 2, TDPBF16PS, TDPBUSD, TILELOADD, LDTILECFG): the machines that retort is built on have none.
// gemm_test.cpp runs this kernel through all of its products beside the others.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "ops/gemm.h"
#include "ops/gemm_emulated.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors wider than this file's registers stay within it

#include "ops/gemm_amx_body.h"

namespace retort {
namespace {

struct Tile {
  int rows = 0, row_bytes = 0;
  alignas(64) char bytes[16][64] = {};
};

struct SoftwareTiles {
  static inline thread_local std::array<Tile, 8> tiles;
  static inline thread_local bool configured = false;

  static void configure(const TileShapes& shapes) {
    if (shapes.palette != 1 || shapes.start_row != 0) throw std::logic_error("ldtilecfg: general protection");
    for (size_t t = 0; t < 16; ++t) {
      const int rows = shapes.rows[t], row_bytes = shapes.row_bytes[t];
      if (rows > 16 || row_bytes > 64 || (rows == 0) != (row_bytes == 0) || (t >= 8 && rows > 0))
        throw std::logic_error("ldtilecfg: general protection");
      if (t < 8) tiles[t] = {rows, row_bytes, {}};
    }
    configured = true;
  }
  static Tile& used(int t) {
    if (!configured || tiles[static_cast<size_t>(t)].rows == 0)
      throw std::logic_error("a tile that is not configured");
    return tiles[static_cast<size_t>(t)];
  }
  template <int t> static void zero() { std::memset(used(t).bytes, 0, sizeof(Tile::bytes)); }
  template <int t> static void load(const void* rows, int64_t row_bytes) {
    auto& tile = used(t);
    zero<t>();
    for (int r = 0; r < tile.rows; ++r)
      std::memcpy(tile.bytes[r], static_cast<const char*>(rows) + r * row_bytes,
                  static_cast<size_t>(tile.row_bytes));
  }
  template <int t> static void load_past(const void* rows, int64_t row_bytes) { load<t>(rows, row_bytes); }
  template <int t> static void store(void* rows, int64_t row_bytes) {
    auto& tile = used(t);
    for (int r = 0; r < tile.rows; ++r)
      std::memcpy(static_cast<char*>(rows) + r * row_bytes, tile.bytes[r],
                  static_cast<size_t>(tile.row_bytes));
  }
  // Rows of c, columns of c, cells of K; anything that does not fit is an exception of the CPU, too.
  template <class Cell> static void each(int c, int a, int b, Cell&& cell) {
    auto &sum = used(c), &left = used(a), &right = used(b);
    if (sum.rows != left.rows || sum.row_bytes != right.row_bytes || left.row_bytes != right.rows * 4)
      throw std::logic_error("tiles that do not fit");
    for (int m = 0; m < sum.rows; ++m)
      for (int n = 0; n < sum.row_bytes / 4; ++n)
        cell(sum.bytes[m] + n * 4, left.bytes[m], right.bytes[0] + n * 4, right.rows);
  }
  template <int c, int a, int b> static void add_bf16() {
    each(c, a, b, [](char* sum, const char* left, const char* right, int cells) {
      float both[2] = {}, s;
      for (int k = 0; k < cells; ++k) {
        uint16_t x[2], y[2];
        std::memcpy(x, left + k * 4, 4), std::memcpy(y, right + k * 64, 4);
        for (int i = 0; i < 2; ++i) {
          const uint32_t wide[2] = {static_cast<uint32_t>(x[i]) << 16, static_cast<uint32_t>(y[i]) << 16};
          float f[2];
          std::memcpy(f, wide, 8);
          both[i] += f[0] * f[1];
        }
      }
      std::memcpy(&s, sum, 4);
      s += both[0] + both[1];
      std::memcpy(sum, &s, 4);
    });
  }
  template <int c, int a, int b> static void add_int8() {
    each(c, a, b, [](char* sum, const char* left, const char* right, int cells) {
      int32_t s;
      std::memcpy(&s, sum, 4);
      for (int k = 0; k < cells; ++k)
        for (int i = 0; i < 4; ++i)
          s += static_cast<uint8_t>(left[k * 4 + i]) * static_cast<int8_t>(right[k * 64 + i]);
      std::memcpy(sum, &s, 4);
    });
  }
  static void release() { tiles = {}, configured = false; }
};

double no_registers(int64_t) { return 0; }

}  // namespace

const GemmKernel& emulated_amx() {
  static constexpr GemmKernel kKernel = amx_kernel<SoftwareTiles>("amx_bf16 in software", no_registers);
  return kKernel;
}

namespace {

// bf16 numbers of all sizes from 2^-12 to 2^12, so that another order of a sum has other bits.
std::vector<uint16_t> spread_bf16(int64_t count, const char* purpose) {
  const Draws draws(6, purpose);
  std::vector<uint16_t> numbers;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<uint64_t>(i);
    numbers.push_back(float_to_bf16(
        static_cast<float>(std::ldexp(draws.normal(at), static_cast<int>(draws.bits(at) % 25) - 12))));
  }
  return numbers;
}

// Left rows of some cells, and a panel of whole vectors.
struct TilesOperands {
  TilesOperands(int64_t m, int64_t cells, int64_t columns)
      : steps(cells),
        stride(2 * cells + 6),
        vectors((columns + 15) / 16),
        left(spread_bf16(m * stride, "left")),
        panel(spread_bf16(cells * vectors * 32, "panel")) {}
  GemmSegment segment() const { return {left.data(), stride * 2, steps, panel.data()}; }
  // One row, one vector of columns.
  TilesOperands part(int64_t row, int64_t vector) const {
    auto one = *this;
    one.left.assign(left.begin() + row * stride, left.begin() + (row + 1) * stride);
    one.vectors = 1, one.panel.clear();
    for (int64_t s = 0; s < steps; ++s) {
      const auto from = panel.begin() + (s * vectors + vector) * 32;
      one.panel.insert(one.panel.end(), from, from + 32);
    }
    return one;
  }
  // As a tile adds: 16 cells at a time, their even and their odd elements apart.
  void add_to(float& sum, int64_t row, int64_t column) const {
    for (int64_t first = 0; first < steps; first += 16) {
      float both[2] = {};
      for (int64_t s = first; s < std::min(steps, first + 16); ++s)
        for (int64_t i = 0; i < 2; ++i)
          both[i] += bf16_to_float(left[static_cast<size_t>(row * stride + 2 * s + i)]) *
                     bf16_to_float(panel[static_cast<size_t>((s * vectors * 16 + column) * 2 + i)]);
      sum += both[0] + both[1];
    }
  }
  int64_t steps, stride, vectors;
  std::vector<uint16_t> left, panel;
};

const std::vector<std::vector<int64_t>> kSegmentCells = {{1}, {15, 3}, {16}, {40, 8}, {145, 32, 5}, {390, 8}};

// The order of every sum is that of the kernel's first form, one block after another: tile after tile of K.
TEST(AmxBf16, EverySumIsMadeTileByTile) {
  for (const auto& cells : kSegmentCells)
    for (const int64_t m : {1, 7, 16, 17, 31, 32, 33, 48, 49, 64, 65})
      for (const int64_t columns : {1, 16, 17, 32}) {
        std::vector<TilesOperands> operands;
        std::vector<GemmSegment> segments;
        for (const auto steps : cells) operands.emplace_back(m, steps, columns);
        for (const auto& operand : operands) segments.push_back(operand.segment());
        constexpr int64_t kStride = 37;
        std::vector<float> sums(static_cast<size_t>(m * kStride), 0.0f), added(sums.size(), 0.375f), bias(32);
        for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i) - 7;
        for (int64_t r = 0; r < m; ++r)
          for (int64_t c = 0; c < columns; ++c)
            for (const auto& operand : operands)
              operand.add_to(sums[static_cast<size_t>(r * kStride + c)], r, c);
        const auto multiply = [&](auto* out, Operand type, const float* add, const float* shift) {
          const auto bytes = static_cast<int64_t>(sizeof *out);
          multiply_on_tiles<SoftwareTiles>(segments.data(), static_cast<int64_t>(segments.size()), m,
                                           {out, kStride * bytes, type, add, kStride * 4, shift, columns});
        };
        std::vector<float> plain(sums.size(), 0.0f), changed(added), more(added);
        std::vector<uint16_t> halves(sums.size(), 0);
        multiply(plain.data(), Operand::f32, nullptr, nullptr);
        multiply(changed.data(), Operand::f32, changed.data(), bias.data());
        multiply(more.data(), Operand::f32, more.data(), nullptr);
        multiply(halves.data(), Operand::bf16, nullptr, nullptr);
        for (int64_t r = 0; r < m; ++r)
          for (int64_t c = 0; c < kStride; ++c) {
            const auto at = static_cast<size_t>(r * kStride + c);
            const bool exists = c < columns;
            ASSERT_EQ(plain[at], sums[at]) << fmt::format("{} x {}, {} cells first", m, columns, cells[0]);
            ASSERT_EQ(halves[at], exists ? float_to_bf16(sums[at]) : 0) << m << " " << columns;
            ASSERT_EQ(more[at], exists ? sums[at] + added[at] : added[at]) << m << " " << columns;
            ASSERT_EQ(changed[at], exists ? sums[at] + added[at] + bias[static_cast<size_t>(c)] : added[at])
                << m << " " << columns;
          }
      }
}

std::vector<const GemmKernel*> kernels_on_tiles() {
  std::vector<const GemmKernel*> kernels{&emulated_amx()};
  if (const auto* tiles = gemm_kernel_amx_bf16()) kernels.push_back(tiles);
  return kernels;
}

// Of this machine's tiles, too: a sum has the same bits in whatever block it is made.
TEST(AmxBf16, ARowAloneHasTheBitsThatItHasAmongOthers) {
  for (const auto* kernel : kernels_on_tiles())
    for (const int64_t steps : {1, 16, 40, 390})
      for (const int64_t m : {15, 33, 65}) {
        const TilesOperands operands(m, steps, 32);
        std::vector<float> whole(static_cast<size_t>(m * 32)), one(16);
        const auto all = operands.segment();
        kernel->multiply(&all, 1, m, {whole.data(), 32 * 4, Operand::f32, nullptr, 0, nullptr, 32});
        for (int64_t r = 0; r < m; ++r)
          for (int64_t v = 0; v < 2; ++v) {
            const auto part = operands.part(r, v);
            const auto segment = part.segment();
            kernel->multiply(&segment, 1, 1, {one.data(), 16 * 4, Operand::f32, nullptr, 0, nullptr, 16});
            for (size_t c = 0; c < 16; ++c)
              ASSERT_EQ(one[c], whole[static_cast<size_t>(r * 32 + v * 16) + c])
                  << kernel->name << " " << steps << " " << m << " " << r;
          }
      }
}

struct alignas(64) Line {
  std::byte bytes[64];
};

// gemm() lays operands out for tiles and goes by groups of panels and of rows; the sums stay the kernel's.
TEST(AmxBf16, LayoutsForTilesKeepTheBits) {
  struct Case {
    int64_t m, n, k, rank;
    const char* why;
  };
  for (const auto* kernel : kernels_on_tiles())
    for (const auto& [m, n, k, rank, why] :
         {Case{33, 1030, 64, 8, "rows that are copied"}, Case{17, 70, 46, 5, "tiles that are filled up"},
          Case{161, 70, 3008, 16, "more rows than stay near"}, Case{65, 40, 416, 32, "in place"}}) {
      const auto a = spread_bf16(m * k, "a"), b = spread_bf16(n * k, "b"),
                 u = spread_bf16(m * (rank + 1), "u"), w = spread_bf16(n * rank, "w");
      const std::vector<GemmTerm> terms{
          {{a.data(), k, Operand::bf16}, gemm_matrix_bf16(b.data(), n, k, false)},
          {{u.data(), rank + 1, Operand::bf16}, gemm_matrix_bf16(w.data(), n, rank, false)}};
      std::vector<float> found(static_cast<size_t>(m * n)), expected(found);
      gemm(*kernel, terms, m, {found.data(), n, Operand::f32});
      // Rows of the second term with a zero where the rank is odd, as a kernel reads them.
      std::vector<uint16_t> even(static_cast<size_t>(m * (rank + 1)), 0);
      for (int64_t r = 0; r < m; ++r)
        std::copy_n(u.begin() + r * (rank + 1), rank, even.begin() + r * (rank + 1));
      for (int64_t c = 0; c < n; c += kernel->width) {
        const auto some = std::min(kernel->width, n - c);
        std::vector<std::vector<Line>> panels;
        std::vector<GemmSegment> segments;
        for (const auto& term : terms) {
          panels.emplace_back(static_cast<size_t>(panel_bytes(*kernel, term.b.k(), some) / 64));
          pack_panels(*kernel, term.b, c, some, panels.back().data()->bytes);
        }
        segments.push_back({a.data(), k * 2, k / 2, panels[0].data()});
        segments.push_back({even.data(), (rank + 1) * 2, (rank + 1) / 2, panels[1].data()});
        kernel->multiply(segments.data(), 2, m,
                         {expected.data() + c, n * 4, Operand::f32, nullptr, 0, nullptr, some});
      }
      for (size_t i = 0; i < found.size(); ++i)
        ASSERT_EQ(found[i], expected[i]) << kernel->name << ", " << why << ": " << i;
    }
}

// By hand. A row of 64 elements is two cache lines and becomes three, where 1,024 columns and 17 rows are
// multiplied; 46 elements are filled up to two tiles, so three lines; one of three lines stays.
TEST(AmxBf16, CopiesTakeWhatCopiedBytesSays) {
  const auto& tiles = emulated_amx();
  EXPECT_EQ(copied_bytes(tiles, 33, 64, 1030, 1), 33 * 3 * 64);
  EXPECT_EQ(copied_bytes(tiles, 33, 46, 70, 1), 33 * 3 * 64);
  EXPECT_EQ(copied_bytes(tiles, 33, 64, 1000, 1), 0);
  EXPECT_EQ(copied_bytes(tiles, 16, 64, 1030, 1), 0);
  EXPECT_EQ(copied_bytes(tiles, 33, 96, 1030, 1), 0);
  // Two threads share 512 rows; of 33 each has all, and half of the columns.
  EXPECT_EQ(copied_bytes(tiles, 512, 64, 1030, 2), 512 * 3 * 64);
  EXPECT_EQ(copied_bytes(tiles, 33, 64, 2060, 2), 2 * 33 * 3 * 64);
  // Three passes of 3,072 elements at most, from rows far apart: any kernel lays these close together.
  EXPECT_EQ(copied_bytes(tiles, 33, 9000, 70, 1), 33 * 97 * 64);
  EXPECT_EQ(copied_bytes(*gemm_kernel_portable(), 33, 9000, 70, 1), 33 * (3072 + 16) * 4);
  EXPECT_EQ(copied_bytes(*gemm_kernel_portable(), 33, 3000, 70, 1), 0);  // one pass
  EXPECT_EQ(copied_bytes(*gemm_kernel_portable(), 33, 64, 1030, 1), 0);
}

// Small codes and scales that are powers of two: every sum is exact.
TEST(AmxInt8, EqualsVnniBitForBit) {
  const auto* vnni = int8_kernel_avx512();
  if (!vnni) GTEST_SKIP() << "no AVX-512 VNNI to compare with";
  const Draws draws(4, "amx");
  uint64_t draw = 0;
  for (const int64_t m : {1, 15, 16, 17, 32, 33, 53})
    for (const int64_t k : {4, 48, 92, 96, 100, 152, 576})
      for (const int64_t columns : {1, 16, 17, 31, 32, 33, 48}) {
        const int64_t groups = (k + kInt8Group - 1) / kInt8Group, vectors = (columns + 15) / 16;
        std::vector<uint8_t> codes(static_cast<size_t>(m * k));
        for (auto& code : codes) code = static_cast<uint8_t>(112 + draws.bits(draw++) % 33);
        std::vector<float> scales(static_cast<size_t>(m * groups)), factors(static_cast<size_t>(columns));
        for (auto& scale : scales) scale = static_cast<float>(1 << draws.bits(draw++) % 4) / 2;
        for (auto& factor : factors) factor = static_cast<float>(1 << draws.bits(draw++) % 4) / -2;
        std::vector<int8_t> panel(static_cast<size_t>(k * vectors * 16));
        for (auto& code : panel) code = static_cast<int8_t>(static_cast<int>(draws.bits(draw++) % 33) - 16);
        std::vector<int32_t> corrections(static_cast<size_t>(groups * vectors * 16));
        vnni->corrections(panel.data(), k, columns, corrections.data());
        const Int8Rows rows{m, k, groups, codes.data(), k, scales.data()};
        for (const int add : {0, 1, 2}) {  // 2: with factors
          std::vector<float> one(static_cast<size_t>(m * 48), 0.25f), two(one);
          vnni->multiply(rows, panel.data(), corrections.data(), add == 2 ? factors.data() : nullptr, columns,
                         one.data(), 48, add == 1);
          int8_multiply_on_tiles<SoftwareTiles>(rows, panel.data(), corrections.data(),
                                                add == 2 ? factors.data() : nullptr, columns, two.data(), 48,
                                                add == 1);
          ASSERT_EQ(one, two) << fmt::format("{} x {} x {}, {}", m, columns, k, add);
        }
      }
}

// What stands between an instruction that does something else than its manual says and a wrong training run.
TEST(Proof, IsAskedOfTilesAndNotGivenByWrongOnes) {
  EXPECT_TRUE(proven(emulated_amx()));
  auto wrong = emulated_amx();
  wrong.multiply = [](const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
    multiply_on_tiles<SoftwareTiles>(segments, count, rows - 1, store);
  };
  EXPECT_FALSE(proven(wrong));
  if (!int8_kernel_avx512()) GTEST_SKIP() << "no AVX-512 VNNI to compare with";
  auto integers = *int8_kernel_avx512();
  integers.multiply = int8_multiply_on_tiles<SoftwareTiles>;
  EXPECT_TRUE(proven(integers));
  integers.multiply = [](const Int8Rows& rows, const void* panel, const int32_t*, const float* factors,
                         int64_t columns, float* out, int64_t stride, bool add) {
    const std::vector<int32_t> none(static_cast<size_t>(rows.groups * 48));
    int8_multiply_on_tiles<SoftwareTiles>(rows, panel, none.data(), factors, columns, out, stride, add);
  };
  EXPECT_FALSE(proven(integers));
}

}  // namespace
}  // namespace retort
