// Codes of 4 bits with scales apart: values by hand, and every path against the definition, bit for bit.
#include "quant/packed4.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/half.h"
#include "quant/nf4.h"
#include "quant/paths.h"

namespace retort {
namespace {

std::vector<std::byte> some_codes(size_t count) {
  std::vector<std::byte> codes(count);
  for (size_t i = 0; i < count; ++i) codes[i] = static_cast<std::byte>(i * 37 + i / 7);
  return codes;
}

std::vector<float> decoded(const std::vector<std::byte>& codes, int64_t columns, const CodeGroups& groups,
                           int64_t row, int64_t rows, int64_t first, int64_t count) {
  std::vector<float> out(static_cast<size_t>(rows * count));
  decode_packed4(codes.data(), columns, groups, row, rows, first, count, out.data());
  std::vector<uint16_t> words(out.size());
  decode_packed4_bf16(codes.data(), columns, groups, row, rows, first, count, words.data());
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(words[i], float_to_bf16(out[i])) << i;
  return out;
}

TEST(Packed4, Fp4IsSignExponentMantissa) {
  const std::vector<float> twelfths = {0, 0.0625f, 8, 12, 4, 6, 2, 3};
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(kFp4Values[i], twelfths[i] / 12);
    EXPECT_EQ(kFp4Values[i + 8], -twelfths[i] / 12);
  }
}

TEST(Packed4, GroupsByHand) {
  // Two rows of six columns in groups of four: the last group of a row has two.
  const std::vector<std::byte> codes = {std::byte{0x10}, std::byte{0x32}, std::byte{0x54},
                                        std::byte{0xFE}, std::byte{0xDC}, std::byte{0xBA}};
  const std::vector<float> scales = {1, 10, 0.5f, 100};
  const std::vector<uint8_t> zeros = {0, 4, 15, 16};
  CodeGroups groups{scales.data(), zeros.data(), nullptr, 2, 4, kWholeCodes.data(), false};
  EXPECT_EQ(decoded(codes, 6, groups, 0, 2, 0, 6),
            (std::vector<float>{0, 1, 2, 3, 0, 10, -0.5f, 0, -1.5f, -1, -600, -500}));
  EXPECT_EQ(decoded(codes, 6, groups, 1, 1, 2, 4), (std::vector<float>{-1.5f, -1, -600, -500}));
  groups.high_first = true;
  EXPECT_EQ(decoded(codes, 6, groups, 0, 1, 0, 6), (std::vector<float>{1, 0, 3, 2, 10, 0}));
  // As one long row: groups of four elements begin at 0, 4 and 8.
  groups.high_first = false, groups.groups = 0, groups.zeros = nullptr;
  EXPECT_EQ(decoded(codes, 6, groups, 0, 2, 0, 6),
            (std::vector<float>{0, 1, 2, 3, 40, 50, 140, 150, 6, 6.5f, 5, 5.5f}));
}

TEST(Packed4, GroupsInAnyOrder) {
  const auto codes = some_codes(3 * 20);
  std::vector<float> scales(3 * 5);
  std::vector<uint8_t> zeros(scales.size());
  std::vector<int32_t> order(40);
  for (size_t i = 0; i < scales.size(); ++i)
    scales[i] = 0.01f * static_cast<float>(i + 1), zeros[i] = static_cast<uint8_t>(i);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i * 7 % 5);
  const CodeGroups groups{scales.data(), zeros.data(), order.data(), 5, 8, kWholeCodes.data(), false};
  const auto all = decoded(codes, 40, groups, 0, 3, 0, 40);
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 40; ++c) {
      const auto pair = std::to_integer<int>(codes[r * 20 + c / 2]);
      const auto code = static_cast<float>(c % 2 == 0 ? pair & 15 : pair >> 4);
      const auto group = r * 5 + static_cast<size_t>(order[c]);
      EXPECT_EQ(all[r * 40 + c], (code - static_cast<float>(zeros[group])) * scales[group]) << r << " " << c;
    }
  const auto part = decoded(codes, 40, groups, 1, 2, 6, 20);
  for (size_t r = 0; r < 2; ++r)
    for (size_t c = 0; c < 20; ++c) EXPECT_EQ(part[r * 20 + c], all[(r + 1) * 40 + 6 + c]);
}

void expect_same(const std::vector<float>& found, const std::vector<float>& expected, const auto& trace) {
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_TRUE(std::isnan(expected[i])
                    ? std::isnan(found[i])
                    : std::bit_cast<uint32_t>(found[i]) == std::bit_cast<uint32_t>(expected[i]))
        << trace << " element " << i << ": " << found[i] << " " << expected[i];
}
void expect_same(const std::vector<uint16_t>& found, const std::vector<uint16_t>& expected,
                 const auto& trace) {
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_TRUE(std::isnan(bf16_to_float(expected[i])) ? std::isnan(bf16_to_float(found[i]))
                                                       : found[i] == expected[i])
        << trace << " element " << i;
}

TEST(Packed4, EveryPathEqualsTheDefinitionToTheBit) {
  if (paths_on_this_machine().empty()) GTEST_SKIP() << "this machine has neither AVX2 nor AVX-512";
  const auto codes = some_codes(500);
  const auto* bytes = reinterpret_cast<const uint8_t*>(codes.data()) + 1;
  const std::vector<float> scales = {1.0f, -0.0173f, 1e-42f, 3e38f, std::nanf(""), 0.37f};
  const std::vector<uint8_t> zeros = {0, 8, 16, 3, 255, 7};
  const std::vector<float> zero_numbers(zeros.begin(), zeros.end());
  std::vector<int32_t> group_of(260);
  for (size_t i = 0; i < group_of.size(); ++i) group_of[i] = static_cast<int32_t>(i * 5 % 6);
  for (const auto* path : paths_on_this_machine())
    for (const auto* book : {kNf4Values, kFp4Values.data(), kWholeCodes.data()})
      for (const bool high_first : {false, true})
        for (const int64_t count : {2, 16, 30, 32, 34, 62, 64, 96, 128, 130}) {
          const auto trace = fmt::format("{} {} {}", path->name, high_first, count);
          const auto size = static_cast<size_t>(6 * count + 7);
          for (const auto* some_zeros : {zeros.data(), static_cast<const uint8_t*>(nullptr)}) {
            const CodeRun run{bytes, scales.data(), some_zeros, book, high_first};
            std::vector<float> expected(size, 77), found(size, 77);
            std::vector<uint16_t> expected_words(size, 77), words(size, 77);
            decode_code_groups(run, 6, count, expected.data());
            decode_code_groups_bf16(run, 6, count, expected_words.data());
            path->code_groups_to_float(run, 6, count, found.data());
            path->code_groups_to_bf16(run, 6, count, words.data());
            expect_same(found, expected, trace), expect_same(words, expected_words, trace);
          }
          const ScatteredRun run{bytes,           scales.data(), zero_numbers.data(),
                                 group_of.data(), book,          high_first};
          std::vector<float> expected(size, 77), found(size, 77);
          std::vector<uint16_t> expected_words(size, 77), words(size, 77);
          decode_scattered_codes(run, count, expected.data());
          decode_scattered_codes_bf16(run, count, expected_words.data());
          path->scattered_codes_to_float(run, count, found.data());
          path->scattered_codes_to_bf16(run, count, words.data());
          expect_same(found, expected, trace), expect_same(words, expected_words, trace);
        }
}

TEST(Packed4, ScalesThatAreCodesByHand) {
  const std::vector<uint8_t> codes = {0, 1, 2, 1};
  const std::vector<float> map = {-1, 0.5f, 1}, maxima = {4, 10};
  std::vector<float> scales(4);
  decode_nested_scales(codes.data(), 4, map.data(), maxima.data(), 3, 0.25f, scales.data());
  EXPECT_EQ(scales, (std::vector<float>{-3.75f, 2.25f, 4.25f, 5.25f}));
}

}  // namespace
}  // namespace retort
