// All forms of a kernel give the same bits: whichever a measurement chooses, a run's bytes are those of any
// other machine of the same arithmetic.
#include "ops/gemm_forms.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "ops/gemm.h"

namespace retort {
namespace {

// Of all sizes from 2^-12 to 2^12, so that another order of a sum has other bits.
std::vector<float> spread_numbers(int64_t count, const std::string& purpose) {
  const Draws draws(5, purpose);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<uint64_t>(i);
    const auto size = static_cast<int>(draws.bits(at) % 25) - 12;
    values.push_back(static_cast<float>(std::ldexp(draws.normal(at), size)));
  }
  return values;
}

std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float v : values) bits.push_back(float_to_bf16(v));
  return bits;
}

// Both operands in the kernel's type.
struct Numbers {
  Numbers(Operand type, int64_t count, const std::string& purpose)
      : operand(type), wide(spread_numbers(count, purpose)), narrow(to_bf16(wide)) {}
  const void* data() const {
    return operand == Operand::f32 ? static_cast<const void*>(wide.data()) : narrow.data();
  }
  GemmRows rows(int64_t stride) const { return {data(), stride, operand}; }
  GemmMatrix matrix(int64_t rows, int64_t columns, bool transposed) const {
    return operand == Operand::f32 ? gemm_matrix(wide.data(), rows, columns, transposed)
                                   : gemm_matrix_bf16(narrow.data(), rows, columns, transposed);
  }
  Operand operand;
  std::vector<float> wide;
  std::vector<uint16_t> narrow;
};

// Products of one shape in all the ways that operations ask for, one after another.
std::vector<float> products(const GemmKernel& kernel, int64_t m, int64_t n, int64_t k) {
  const auto type = kernel.operand;
  const Numbers a(type, m * k + 1, "a"), b(type, n * k, "b"), more(type, m * 7 + 1, "more"),
      others(type, n * 7, "others");
  const auto bias = spread_numbers(n, "bias");
  std::vector<float> all;
  const auto keep = [&](const std::vector<float>& c) { all.insert(all.end(), c.begin(), c.end()); };
  const auto size = static_cast<size_t>(m * n);
  for (const bool transposed : {false, true}) {
    const GemmTerm term{a.rows(k), b.matrix(transposed ? k : n, transposed ? n : k, transposed)};
    const GemmTerm second{more.rows(7), others.matrix(transposed ? 7 : n, transposed ? n : 7, transposed)};
    const std::vector<GemmTerm> both{term, second};
    std::vector<float> c(size);
    gemm(kernel, {&term, 1}, m, {c.data(), n, Operand::f32});
    keep(c);
    gemm(kernel, both, m, {c.data(), n, Operand::f32, nullptr, true});
    keep(c);
    gemm(kernel, both, m, {c.data(), n, Operand::f32, bias.data()});
    keep(c);
    std::vector<uint16_t> halves(size);
    gemm(kernel, {&term, 1}, m, {halves.data(), n, Operand::bf16});
    for (size_t i = 0; i < size; ++i) c[i] = bf16_to_float(halves[i]);
    keep(c);
  }
  // Over rows: a [k, m], b [k, n].
  std::vector<float> c(size);
  gemm_transposed(kernel, a.rows(m), m, b.rows(n), n, k, {c.data(), n, Operand::f32});
  keep(c);
  return all;
}

TEST(GemmForms, AllGiveTheSameBits) {
  at::set_num_threads(1);
  int compared = 0;
  for (const auto& forms : {gemm_forms_avx512_bf16(), gemm_forms_avx512(), gemm_forms_avx2()})
    for (int64_t i = 1; i < forms.count; ++i)
      for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                       {8, 48, 16},
                                                                       {9, 48, 17},
                                                                       {17, 49, 31},
                                                                       {26, 96, 64},
                                                                       {35, 145, 129},
                                                                       {63, 47, 200},
                                                                       {64, 192, 576},
                                                                       {20, 50, 3073},
                                                                       {201, 60, 515}}) {
        const auto &first = forms.first[0].kernel, &other = forms.first[i].kernel;
        const auto expected = products(first, m, n, k), found = products(other, m, n, k);
        EXPECT_EQ(std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)), 0)
            << first.name << ", " << forms.first[i].name << ": " << m << "x" << n << "x" << k;
        ++compared;
      }
  if (compared == 0) GTEST_SKIP() << "this CPU has neither AVX2 nor AVX-512";
}

// The bits would differ if sums were made in another order: the test above can fail.
TEST(GemmForms, TheNumbersTellOrdersApart) {
  at::set_num_threads(1);
  const auto* kernel = gemm_kernel_portable();
  constexpr int64_t kRows = 9, kInner = 200;
  const auto a = spread_numbers(kRows * kInner, "a"), b = spread_numbers(kInner, "b");
  auto backwards = a, turned = b;
  for (int64_t r = 0; r < kRows; ++r)
    std::reverse(backwards.begin() + r * kInner, backwards.begin() + (r + 1) * kInner);
  std::reverse(turned.begin(), turned.end());
  std::vector<float> one(kRows), two(kRows);
  const GemmTerm forward{{a.data(), kInner, Operand::f32}, gemm_matrix(b.data(), 1, kInner, false)},
      backward{{backwards.data(), kInner, Operand::f32}, gemm_matrix(turned.data(), 1, kInner, false)};
  gemm(*kernel, {&forward, 1}, kRows, {one.data(), 1, Operand::f32});
  gemm(*kernel, {&backward, 1}, kRows, {two.data(), 1, Operand::f32});
  EXPECT_NE(one, two);
}

TEST(GemmForms, TheChosenOnesHaveNames) {
  for (const auto* kernel : gemm_kernels()) {
    const std::string form = form_name(*kernel);
    EXPECT_EQ(form.empty(), kernel == gemm_kernel_portable() || kernel == gemm_kernel_amx_bf16())
        << kernel->name;
    std::printf("  %-12s %s\n", kernel->name, form.c_str());
  }
}

// An adapter's gradient is made without panels; its rows are those of a product that is made with them.
TEST(NarrowGradient, HasTheBitsOfPanels) {
  for (const auto* kernel : gemm_kernels())
    for (const int64_t k : {1, 2, 31, 64, 512, 513, 1031})
      for (const int64_t nb : {1, 16, 17, 32, 33, 63, 700}) {
        constexpr int64_t kAll = 64;  // more than any narrow one
        const Numbers a(kernel->operand, k * kAll, "a"), b(kernel->operand, k * nb, "b");
        at::set_num_threads(1);
        std::vector<float> whole(static_cast<size_t>(kAll * nb));
        gemm_transposed(*kernel, a.rows(kAll), kAll, b.rows(nb), nb, k, {whole.data(), nb, Operand::f32});
        for (const int64_t na : {1, 3, 8, 15, 16, 32, 48})
          for (const int threads : {1, 2}) {
            at::set_num_threads(threads);
            const auto size = static_cast<size_t>(na * nb);
            std::vector<float> found(size, 7);
            gemm_transposed(*kernel, a.rows(kAll), na, b.rows(nb), nb, k, {found.data(), nb, Operand::f32});
            EXPECT_EQ(std::memcmp(found.data(), whole.data(), size * sizeof(float)), 0)
                << kernel->name << " " << k << " " << na << " " << nb << " " << threads;
            gemm_transposed(*kernel, a.rows(kAll), na, b.rows(nb), nb, k,
                            {found.data(), nb, Operand::f32, nullptr, true});
            for (size_t i = 0; k <= 512 && i < size; ++i)  // one sum, added to itself
              ASSERT_EQ(found[i], 2 * whole[i]) << kernel->name << " " << k << " " << na << " " << nb;
          }
      }
  at::set_num_threads(1);
}

}  // namespace
}  // namespace retort
