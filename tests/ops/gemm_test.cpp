// Every kernel that this machine can run against a product in double precision, over odd shapes and every
// stored type.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include <atomic>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/random.h"
#include "ops/gemm.h"
#include "ops/gemm_emulated.h"
#include "ops/int8_gemm.h"
#include "ops/scratch.h"
#include "ops/team.h"

namespace retort {
namespace {

std::vector<float> normals(int64_t count, const std::string& purpose) {
  const Draws draws(9, purpose);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(draws.normal(static_cast<uint64_t>(i))));
  return values;
}

std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float v : values) bits.push_back(float_to_bf16(v));
  return bits;
}
float rounded(float v) { return bf16_to_float(float_to_bf16(v)); }

struct Stored {
  WeightType type;
  int64_t rows, columns;
  std::vector<std::byte> bytes;
  std::vector<float> values;  // decoded

  GemmMatrix view(bool transposed) const {
    return {type,
            bytes.data(),
            rows,
            columns,
            static_cast<int64_t>(*row_bytes(type, static_cast<uint64_t>(columns))),
            transposed,
            1};
  }
};

// Read-only types get blocks of random bytes, drawn again until all values are small.
Stored stored(WeightType type, int64_t rows, int64_t columns, const std::string& purpose) {
  Stored matrix{
      type, rows, columns,
      std::vector<std::byte>(static_cast<size_t>(rows) * *row_bytes(type, static_cast<uint64_t>(columns))),
      std::vector<float>(static_cast<size_t>(rows * columns))};
  if (can_quantize(type)) {
    quantize_rows(type, normals(rows * columns, purpose).data(), matrix.bytes.data(), rows, columns);
  } else {
    const auto& info = type_info(type);
    const Draws draws(3, purpose);
    uint64_t draw = 0;
    std::vector<float> block(static_cast<size_t>(info.block_elements));
    for (size_t at = 0; at < matrix.bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
      do {
        for (int64_t i = 0; i < info.block_bytes; ++i)
          matrix.bytes[at + static_cast<size_t>(i)] = static_cast<std::byte>(draws.bits(draw++));
        info.dequantize(matrix.bytes.data() + at, block.data(), 1);
      } while (!std::all_of(block.begin(), block.end(), [](float v) { return std::fabs(v) < 8; }));
    }
  }
  dequantize_rows(type, matrix.bytes.data(), matrix.values.data(), rows, columns);
  return matrix;
}

// c += a b; a [m,k], b as stored, both rounded to what the kernel multiplies.
void add_product(std::vector<double>& c, const std::vector<float>& a, const Stored& b, bool transposed,
                 int64_t m, Operand operand) {
  const int64_t n = transposed ? b.columns : b.rows, k = transposed ? b.rows : b.columns;
  const auto seen = [&](float v) { return static_cast<double>(operand == Operand::bf16 ? rounded(v) : v); };
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += seen(a[static_cast<size_t>(i * k + p)]) *
               seen(b.values[static_cast<size_t>(transposed ? p * b.columns + j : j * b.columns + p)]);
      c[static_cast<size_t>(i * n + j)] += sum;
    }
}

double distance(const std::vector<float>& c, const std::vector<double>& reference) {
  double worst = 0, largest = 1e-9;
  for (size_t i = 0; i < c.size(); ++i) {
    worst = std::max(worst, std::fabs(c[i] - reference[i]));
    largest = std::max(largest, std::fabs(reference[i]));
    if (std::isnan(c[i])) return INFINITY;
  }
  return worst / largest;
}

void expect_product(const GemmKernel& kernel, WeightType type, int64_t m, int64_t rows, int64_t columns,
                    bool transposed, Operand activations) {
  const auto b = stored(type, rows, columns, "b");
  const auto n = transposed ? columns : rows, k = transposed ? rows : columns;
  auto a = normals(m * k, "a");
  const auto a16 = to_bf16(a);
  if (activations == Operand::bf16)
    for (auto& v : a) v = rounded(v);
  const auto bias = normals(n, "bias");
  std::vector<double> reference(static_cast<size_t>(m * n));
  for (size_t i = 0; i < reference.size(); ++i)
    reference[i] = static_cast<double>(bias[i % static_cast<size_t>(n)]);
  add_product(reference, a, b, transposed, m, kernel.operand);
  std::vector<float> c(reference.size());
  const GemmTerm term{
      {activations == Operand::f32 ? static_cast<const void*>(a.data()) : a16.data(), k, activations},
      b.view(transposed)};
  gemm(kernel, {&term, 1}, m, {c.data(), n, Operand::f32, bias.data()});
  EXPECT_LT(distance(c, reference), 1e-5) << kernel.name << " " << type_info(type).name << " " << m << "x"
                                          << n << "x" << k << (transposed ? " transposed" : "");
}

TEST(Gemm, OddShapesEqualDoublePrecision) {
  at::set_num_threads(1);
  for (const auto* kernel : every_kernel())
    for (const auto activations : {Operand::f32, Operand::bf16})
      for (const bool transposed : {false, true})
        for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                         {1, 17, 5},
                                                                         {2, 16, 33},
                                                                         {3, 49, 64},
                                                                         {7, 48, 31},
                                                                         {15, 100, 7},
                                                                         {33, 47, 129},
                                                                         {65, 145, 50}})
          expect_product(*kernel, WeightType::f32, m, transposed ? k : n, transposed ? n : k, transposed,
                         activations);
}

TEST(Gemm, EveryStoredTypeIsDecodedByThePacker) {
  at::set_num_threads(1);
  for (const auto* kernel : every_kernel())
    for (const auto& info : all_types()) {
      const bool weights = info.block_elements > 1 || info.type == WeightType::f32 ||
                           info.type == WeightType::f16 || info.type == WeightType::bf16;
      if (!weights || info.type == WeightType::q8_k) continue;  // Q8_K is for activations
      for (const bool transposed : {false, true})
        expect_product(*kernel, info.type, 13, 37, 768, transposed, Operand::f32);
    }
}

// The packer decodes parts of rows; with the scales of whole groups, the product has the bits of the widened
// matrix's.
TEST(Gemm, CodesWithScalesApartGiveTheBitsOfTheirValues) {
  at::set_num_threads(1);
  constexpr int64_t kRows = 200, kColumns = 1280;
  std::vector<std::byte> codes(kRows * kColumns / 2);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i * 37 + i / 253);
  const auto scales = normals(kRows * kColumns / 64, "scales");
  std::vector<uint8_t> zeros(scales.size());
  for (size_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<uint8_t>(i % 16);
  std::vector<int32_t> order(kColumns);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i * 7 % (kColumns / 64));
  const CodeGroups in_order{scales.data(),      zeros.data(), nullptr, kColumns / 64, 64,
                            kWholeCodes.data(), false},
      any_order{scales.data(), zeros.data(), order.data(), kColumns / 64, 64, kWholeCodes.data(), false},
      one_row{scales.data(), nullptr, nullptr, 0, 96, kFp4Values.data(), true};
  for (const auto& groups : {in_order, any_order, one_row}) {
    std::vector<float> values(kRows * kColumns);
    decode_packed4(codes.data(), kColumns, groups, 0, kRows, 0, kColumns, values.data());
    for (const auto* kernel : every_kernel())
      for (const bool transposed : {false, true})
        for (const int64_t m : {1, 13}) {
          const auto n = transposed ? kColumns : kRows, k = transposed ? kRows : kColumns;
          const auto a = normals(m * k, "a");
          GemmMatrix packed{WeightType::packed4, codes.data(), kRows, kColumns, kColumns / 2, transposed};
          packed.groups = groups;
          const GemmRows rows{a.data(), k, Operand::f32};
          const GemmTerm stored{rows, packed},
              wide{rows, gemm_matrix(values.data(), kRows, kColumns, transposed)};
          std::vector<float> found(static_cast<size_t>(m * n)), expected(found.size());
          gemm(*kernel, {&stored, 1}, m, {found.data(), n, Operand::f32});
          gemm(*kernel, {&wide, 1}, m, {expected.data(), n, Operand::f32});
          EXPECT_EQ(found, expected) << kernel->name << " " << transposed << " " << m;
        }
  }
}

TEST(Gemm, LongSumsGoInPasses) {
  at::set_num_threads(1);
  for (const auto* kernel : every_kernel())
    for (const bool transposed : {false, true}) {
      expect_product(*kernel, WeightType::q8_0, 15, transposed ? 7001 : 64, transposed ? 64 : 7008,
                     transposed, Operand::f32);
      expect_product(*kernel, WeightType::bf16, 3, transposed ? 3073 : 50, transposed ? 50 : 3073, transposed,
                     Operand::bf16);
    }
}

// The shape of a backward pass over q, k and v with adapters: six terms on one accumulator, into bf16 and
// added to fp32.
TEST(Gemm, TermsShareTheirSum) {
  at::set_num_threads(1);
  constexpr int64_t kM = 19, kN = 64;
  for (const auto* kernel : every_kernel()) {
    std::vector<double> reference(kM * kN);
    std::vector<std::vector<float>> lefts;
    std::vector<Stored> rights;
    const std::vector<std::pair<WeightType, int64_t>> parts{
        {WeightType::q4_1, 96}, {WeightType::f32, 7},         {WeightType::nf4_dq, 33},
        {WeightType::f32, 16},  {WeightType::int8_row, 3001}, {WeightType::bf16, 1}};
    for (size_t i = 0; i < parts.size(); ++i) {
      lefts.push_back(normals(kM * parts[i].second, "a" + std::to_string(i)));
      rights.push_back(stored(parts[i].first, parts[i].second, kN, "b" + std::to_string(i)));
    }
    std::vector<GemmTerm> terms;
    for (size_t i = 0; i < parts.size(); ++i) {
      terms.push_back({{lefts[i].data(), parts[i].second, Operand::f32}, rights[i].view(true)});
      add_product(reference, lefts[i], rights[i], true, kM, kernel->operand);
    }
    auto c = normals(kM * kN, "c");
    auto wanted = reference;
    for (size_t i = 0; i < c.size(); ++i) wanted[i] += static_cast<double>(c[i]);
    gemm(*kernel, terms, kM, {c.data(), kN, Operand::f32, nullptr, true});
    EXPECT_LT(distance(c, wanted), 1e-5) << kernel->name;
    std::vector<uint16_t> c16(reference.size());
    gemm(*kernel, terms, kM, {c16.data(), kN, Operand::bf16});
    for (size_t i = 0; i < c16.size(); ++i) c[i] = bf16_to_float(c16[i]);
    EXPECT_LT(distance(c, reference), 0.004) << kernel->name;
  }
}

TEST(Gemm, ScaledAdapters) {
  for (const auto* kernel : every_kernel()) {
    const auto b = stored(WeightType::f32, 40, 300, "b");
    const auto a = normals(6 * 300, "a");
    auto scaled = b;
    for (auto& v : scaled.values) v *= 1.75f;
    std::vector<double> reference(6 * 40);
    add_product(reference, a, scaled, false, 6, kernel->operand);
    std::vector<float> c(reference.size());
    const GemmTerm term{{a.data(), 300, Operand::f32}, gemm_matrix(b.values.data(), 40, 300, false, 1.75f)};
    gemm(*kernel, {&term, 1}, 6, {c.data(), 40, Operand::f32});
    EXPECT_LT(distance(c, reference), 1e-5) << kernel->name;
  }
}

// Generation: blocks read without packing, activations as slices of eight bits. The reference has unrounded
// activations: three slices keep what fp32 has.
TEST(Gemm, FewRowsReadTheBlocksThemselves) {
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    for (const auto type : {WeightType::q4_0, WeightType::q4_1, WeightType::q8_0})
      for (const int64_t m : {1, 2, 3, 4, 7, 12})
        for (const int64_t k : {32, 96, 544, 1536}) {
          const auto b = stored(type, 333, k, "b");
          auto a = normals(m * k, "a");
          for (size_t i = 0; i < a.size(); i += 37) a[i] *= 300;  // outliers spoil their own block alone
          const auto adapter = stored(WeightType::f32, 333, 4, "adapter");
          const auto low = normals(m * 4, "low"), bias = normals(333, "bias");
          std::vector<double> reference(static_cast<size_t>(m * 333));
          for (size_t i = 0; i < reference.size(); ++i) reference[i] = static_cast<double>(bias[i % 333]);
          add_product(reference, a, b, false, m, Operand::f32);
          std::vector<float> c(reference.size());
          const std::vector<GemmTerm> terms{{{a.data(), k, Operand::f32}, b.view(false)},
                                            {{low.data(), 4, Operand::f32}, adapter.view(false)}};
          const auto& kernel = gemm_kernel(Operand::f32);
          gemm(kernel, {terms.data(), 1}, m, {c.data(), 333, Operand::f32, bias.data()});
          EXPECT_LT(distance(c, reference), 3e-5) << type_info(type).name << " " << m << " " << k;
          add_product(reference, low, adapter, false, m, Operand::f32);
          gemm(kernel, terms, m, {c.data(), 333, Operand::f32, bias.data()});
          EXPECT_LT(distance(c, reference), 3e-5) << type_info(type).name << " " << m << " " << k;
          const auto narrow = to_bf16(a);  // two slices: 2^-15 of each block's largest
          for (size_t i = 0; i < a.size(); ++i) a[i] = bf16_to_float(narrow[i]);
          std::fill(reference.begin(), reference.end(), 0);
          add_product(reference, a, b, false, m, Operand::f32);
          const GemmTerm in_bf16{{narrow.data(), k, Operand::bf16}, b.view(false)};
          gemm(kernel, {&in_bf16, 1}, m, {c.data(), 333, Operand::f32});
          EXPECT_LT(distance(c, reference), 2e-4) << type_info(type).name << " " << m << " " << k;
          a[static_cast<size_t>(k - 1)] = NAN;
          gemm(kernel, terms, m, {c.data(), 333, Operand::f32});
          EXPECT_TRUE(std::isnan(c[0]));
          EXPECT_EQ(std::isnan(c.back()), m == 1);
        }
  }
  at::set_num_threads(1);
}

// Integers: 127 steps for each 96 activations and each row of weights, so about half a percent of the
// result's size.
TEST(Gemm, IntegersAreWithinTheirRounding) {
  at::set_num_threads(1);
  if (!int8_kernel()) GTEST_SKIP() << "no AVX-512 VNNI";
  for (const auto* kernel : every_kernel()) {
    if (kernel->lanes != 16) continue;
    for (const auto type :
         {WeightType::f32, WeightType::q4_1, WeightType::nf4_dq, WeightType::q6_k, WeightType::int8_row})
      for (const bool transposed : {false, true})
        for (const int64_t other : {13, 77, 193}) {
          constexpr int64_t kM = 21, kWide = 768;
          const auto b = stored(type, other, kWide, "b"),
                     adapter =
                         stored(WeightType::f32, transposed ? 5 : other, transposed ? kWide : 5, "adapter");
          const auto n = transposed ? kWide : other, k = transposed ? other : kWide;
          std::vector<float> scales(static_cast<size_t>(other));
          for (int64_t r = 0; r < other; ++r)
            for (int64_t c = 0; c < kWide; ++c)
              scales[static_cast<size_t>(r)] =
                  std::max(scales[static_cast<size_t>(r)],
                           std::fabs(b.values[static_cast<size_t>(r * kWide + c)]) / 127);
          auto a = normals(kM * k, "a");
          const auto low = normals(kM * 5, "low"), bias = normals(n, "bias");
          std::vector<double> reference(static_cast<size_t>(kM * n));
          for (size_t i = 0; i < reference.size(); ++i)
            reference[i] = static_cast<double>(bias[i % static_cast<size_t>(n)]);
          add_product(reference, a, b, transposed, kM, Operand::f32);
          add_product(reference, low, adapter, transposed, kM, Operand::f32);
          std::vector<float> c(reference.size());
          const std::vector<GemmTerm> terms{{{a.data(), k, Operand::f32}, b.view(transposed), scales.data()},
                                            {{low.data(), 5, Operand::f32}, adapter.view(transposed)}};
          gemm(*kernel, terms, kM, {c.data(), n, Operand::f32, bias.data()});
          double error = 0, size = 0;
          for (size_t i = 0; i < c.size(); ++i)
            error += std::pow(c[i] - reference[i], 2), size += std::pow(reference[i], 2);
          EXPECT_LT(std::sqrt(error / size), 0.015) << kernel->name << " " << type_info(type).name << " "
                                                    << other << (transposed ? " transposed" : "");
          EXPECT_GT(std::sqrt(error / size), 1e-4);  // integers did run
          if (transposed) {                          // two integer terms, as dx of two layers
            const std::vector<GemmTerm> twice{terms[0], terms[0]};
            auto doubled = std::vector<double>(reference.size());
            add_product(doubled, a, b, transposed, kM, Operand::f32);
            add_product(doubled, a, b, transposed, kM, Operand::f32);
            gemm(*kernel, twice, kM, {c.data(), n, Operand::f32});
            error = size = 0;
            for (size_t i = 0; i < c.size(); ++i)
              error += std::pow(c[i] - doubled[i], 2), size += std::pow(doubled[i], 2);
            EXPECT_LT(std::sqrt(error / size), 0.015) << kernel->name << " " << type_info(type).name;
          }
        }
  }
}

TEST(Team, PiecesRunOnceAndExceptionsComeBack) {
  at::set_num_threads(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> runs(17);
    on_team(17, [&](int64_t i) {
      EXPECT_EQ(team_size(), 1);  // no team within a team
      ++runs[static_cast<size_t>(i)];
    });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
  }
  EXPECT_THROW(on_team(5,
                       [](int64_t i) {
                         if (i == 3) throw std::runtime_error("piece");
                       }),
               std::runtime_error);
  int after = 0;
  on_team(1, [&](int64_t) { ++after; });
  EXPECT_EQ(after, 1);
  at::set_num_threads(1);
}

TEST(Gemm, TransposedLeftOperand) {
  std::vector<std::array<int64_t, 3>> sizes;  // K, rows and columns of the result
  for (const int64_t k : {1, 2, 31, 64, 77})
    for (const int64_t na : {1, 16, 37}) sizes.push_back({k, na, 53});
  sizes.push_back({1031, 200, 53});  // several parts of K, several blocks of rows
  sizes.push_back({515, 9, 700});    // several groups of columns
  for (const auto* kernel : every_kernel())
    for (const auto type : {Operand::f32, Operand::bf16})
      for (const auto& [k, na, nb] : sizes) {
        auto a = normals(k * na, "a"), b = normals(k * nb, "b");
        const auto a16 = to_bf16(a), b16 = to_bf16(b);
        std::vector<double> reference(static_cast<size_t>(na * nb));
        const bool round = type == Operand::bf16 || kernel->operand == Operand::bf16;
        for (int64_t p = 0; p < k; ++p)
          for (int64_t i = 0; i < na; ++i)
            for (int64_t j = 0; j < nb; ++j) {
              const float x = a[static_cast<size_t>(p * na + i)], y = b[static_cast<size_t>(p * nb + j)];
              reference[static_cast<size_t>(i * nb + j)] +=
                  static_cast<double>(round ? rounded(x) : x) * static_cast<double>(round ? rounded(y) : y);
            }
        const bool wide = type == Operand::f32;
        const GemmRows left{wide ? static_cast<const void*>(a.data()) : a16.data(), na, type},
            right{wide ? static_cast<const void*>(b.data()) : b16.data(), nb, type};
        const auto where = fmt::format("{} {} {} {}", kernel->name, k, na, nb);
        std::vector<float> c(reference.size(), 7);
        for (const int threads : {1, 2}) {
          at::set_num_threads(threads);
          gemm_transposed(*kernel, left, na, right, nb, k, {c.data(), nb, Operand::f32});
          EXPECT_LT(distance(c, reference), 1e-5) << where;
        }
        at::set_num_threads(1);
        gemm_transposed(*kernel, left, na, right, nb, k, {c.data(), nb, Operand::f32, nullptr, true});
        for (auto& x : reference) x *= 2;
        EXPECT_LT(distance(c, reference), 1e-5) << where;
      }
}

TEST(Gemm, PiecesEqualTheWhole) {
  constexpr int64_t kM = 19;
  for (const auto* kernel : every_kernel())
    for (const bool transposed : {false, true}) {
      const auto b = stored(WeightType::q8_0, transposed ? 64 : 160, transposed ? 160 : 64, "b");
      const auto a = normals(kM * 64, "a");
      const auto a16 = to_bf16(a);
      const GemmRows rows{kernel->operand == Operand::f32 ? static_cast<const void*>(a.data()) : a16.data(),
                          64, kernel->operand};
      std::vector<float> whole(kM * 160), parts(kM * 160, 1);
      const GemmTerm term{rows, b.view(transposed)};
      gemm(*kernel, {&term, 1}, kM, {whole.data(), 160, Operand::f32});
      for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 96}, {96, 64}}) {
        auto* panels = scratch_bytes(Scratch::callers, panel_bytes(*kernel, 64, count));
        pack_panels(*kernel, b.view(transposed), first, count, panels);
        multiply_panels(*kernel, rows, kM, 64, panels, count,
                        {parts.data() + first, 160, Operand::f32, nullptr, true});
      }
      for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i] + 1, 1e-4) << kernel->name;
    }
}

TEST(Gemm, ThreadsGiveTheSameBits) {
  const auto b = stored(WeightType::q4_1, 200, 96, "b");
  for (const auto* kernel : every_kernel())
    for (const int64_t m : {5, 600}) {
      const auto a = normals(m * 96, "a");
      std::vector<float> one(static_cast<size_t>(m * 200)), two(one);
      const GemmTerm term{{a.data(), 96, Operand::f32}, b.view(false)};
      at::set_num_threads(1);
      gemm(*kernel, {&term, 1}, m, {one.data(), 200, Operand::f32});
      at::set_num_threads(2);
      gemm(*kernel, {&term, 1}, m, {two.data(), 200, Operand::f32});
      at::set_num_threads(1);
      EXPECT_EQ(std::memcmp(one.data(), two.data(), one.size() * 4), 0) << kernel->name << " " << m;
    }
}

TEST(Gemm, SpeedsAreMeasuredAndBelowThePeak) {
  for (const auto& speed : gemm_speeds()) {
    EXPECT_GT(speed.product, 0.02 * speed.peak) << speed.kernel->name;  // other processes may share the core
    EXPECT_GT(speed.peak, 1) << speed.kernel->name;
    std::printf("  %-12s product %.0f GFLOP/s, peak %.0f\n", speed.kernel->name, speed.product, speed.peak);
  }
  std::printf("  bf16 activations: %s, fp32: %s\n", gemm_kernel(Operand::bf16).name,
              gemm_kernel(Operand::f32).name);
}

}  // namespace
}  // namespace retort
