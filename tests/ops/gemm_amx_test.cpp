// The kernels on tiles, with a unit in software that does what Intel's manual says the instructions do
// (volume 2, TDPBF16PS, TDPBUSD, TILELOADD, LDTILECFG): the machines that retort is built on have none.
// gemm_test.cpp runs this kernel through all of its products beside the others.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

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
