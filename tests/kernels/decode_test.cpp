// The decoding kernels on the CPU, in several orders of threads, against the scalar definitions bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "quant/packed4.h"
#include "quant/scaled_f8.h"
#include "support/run_decode.h"

namespace retort {
namespace {

// Memory at a multiple of 16 with something behind it that must stay.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : words_(bytes / 16 + 2), bytes_(bytes) {
    std::memset(words_.data(), 0x77, words_.size() * sizeof(Words));
  }
  uint8_t* data() { return reinterpret_cast<uint8_t*>(words_.data()); }
  bool untouched_behind() {
    for (size_t i = bytes_; i < words_.size() * sizeof(Words); ++i)
      if (data()[i] != 0x77) return false;
    return true;
  }

 private:
  std::vector<Words> words_;
  size_t bytes_;
};

Buffer random_bytes(size_t count, uint64_t seed) {
  Buffer buffer(count);
  const Draws draws(seed, "stored");
  for (size_t i = 0; i < count; ++i) buffer.data()[i] = static_cast<uint8_t>(draws.bits(i));
  return buffer;
}

// The same bits; of a NaN only that it is one.
bool same(float a, float b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

// Decodes in several orders, to both types, and compares with `expected`.
void expect_decoded(DecodeJob job, const std::vector<float>& expected) {
  for (const bool to_bf16 : {true, false})
    for (const uint64_t order : {0, 1, 2}) {
      Launch launch;
      launch.blocks = 1 + static_cast<int64_t>(order), launch.order = order;
      const size_t width = to_bf16 ? 2 : 4;
      Buffer out(expected.size() * width);
      job.to_bf16 = to_bf16, job.out = out.data();
      run_decode(job, launch);
      for (size_t i = 0; i < expected.size(); ++i) {
        float value = 0;
        uint16_t half = 0;
        if (to_bf16) {
          std::memcpy(&half, out.data() + 2 * i, 2);
          ASSERT_TRUE(half == float_to_bf16(expected[i]) ||
                      (std::isnan(expected[i]) && std::isnan(bf16_to_float(half))))
              << type_info(job.type).name << " bf16, element " << i << ", order " << order;
        } else {
          std::memcpy(&value, out.data() + 4 * i, 4);
          ASSERT_TRUE(same(value, expected[i])) << type_info(job.type).name << " fp32, element " << i
                                                << ", order " << order << ": " << value << " " << expected[i];
        }
      }
      EXPECT_TRUE(out.untouched_behind()) << type_info(job.type).name;
    }
}

TEST(DecodeKernels, EveryBlockTypeEqualsItsScalarDefinition) {
  struct Shape {
    int64_t rows, columns;
  };
  int types = 0;
  for (const auto& info : all_types()) {
    if (info.block_elements < 8) continue;
    ++types;
    ASSERT_TRUE(has_decode_kernel(info.type)) << info.name;
    for (const auto& [rows, columns] : {Shape{1, 256}, Shape{3, 1792}, Shape{9, 256}}) {
      const auto stride = *row_bytes(info.type, static_cast<uint64_t>(columns));
      auto stored = random_bytes(static_cast<size_t>(rows) * stride, static_cast<uint64_t>(rows));
      std::vector<float> expected(static_cast<size_t>(rows * columns));
      for (int64_t r = 0; r < rows; ++r)
        info.dequantize(reinterpret_cast<const std::byte*>(stored.data()) + static_cast<size_t>(r) * stride,
                        expected.data() + r * columns, columns / info.block_elements);
      DecodeJob job;
      job.type = info.type, job.stored = stored.data(), job.rows = rows, job.columns = columns;
      job.book = decode_book(info.type).data();
      expect_decoded(job, expected);
    }
  }
  EXPECT_EQ(types, 30);
}

TEST(DecodeKernels, F8WithScalesForBlocksRowsAndTheWhole) {
  struct Shape {
    int64_t rows, columns, first_row, block_rows, block_columns;
  };
  for (const auto& [rows, columns, first_row, block_rows, block_columns] :
       {Shape{5, 300, 2, 4, 128}, Shape{40, 256, 0, 16, 128}, Shape{7, 64, 3, 1, 64},
        Shape{6, 101, 0, 6, 101}, Shape{4, 72, 1, 3, 20}}) {
    const auto grid_columns = (columns + block_columns - 1) / block_columns;
    const auto grid_rows = (first_row + rows + block_rows - 1) / block_rows;
    const Draws draws(3, "scales");
    std::vector<float> scales(static_cast<size_t>(grid_rows * grid_columns));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<float>(draws.normal(i));
    auto stored = random_bytes(static_cast<size_t>(rows * columns), 9);
    std::vector<float> expected(static_cast<size_t>(rows * columns));
    for (int64_t i = 0; i < rows * columns; ++i) {
      const auto row = first_row + i / columns, column = i % columns;
      expected[static_cast<size_t>(i)] = scaled_f8_value(
          stored.data()[i],
          scales[static_cast<size_t>(row / block_rows * grid_columns + column / block_columns)]);
    }
    DecodeJob job;
    job.type = WeightType::f8_e4m3, job.stored = stored.data(), job.rows = rows, job.columns = columns;
    job.scales = scales.data(), job.first_row = first_row, job.scale_columns = grid_columns;
    job.block_rows = block_rows, job.block_columns = block_columns;
    expect_decoded(job, expected);
  }
}

TEST(DecodeKernels, CodesOf4BitsInEveryLayoutOfGroups) {
  constexpr int64_t kRows = 6, kFirst = 2;
  for (const int64_t columns : {64, 96, 42})
    for (const int64_t group_columns : {16, 32, 10})
      for (const bool run_on : {false, true})
        for (const bool zeros : {false, true})
          for (const bool scattered : {false, true}) {
            if (scattered && run_on) continue;
            CodeGroups groups;
            groups.groups = run_on ? 0 : (columns + group_columns - 1) / group_columns;
            groups.group_columns = group_columns;
            groups.book = kFp4Values.data();
            groups.high_first = zeros;
            const auto number =
                static_cast<size_t>(run_on ? ((kFirst + kRows) * columns + group_columns - 1) / group_columns
                                           : (kFirst + kRows) * groups.groups);
            const Draws draws(4, "scales");
            std::vector<float> scales(number);
            std::vector<uint8_t> zero_points(number);
            std::vector<int32_t> group_of(static_cast<size_t>(columns));
            for (size_t i = 0; i < number; ++i)
              scales[i] = static_cast<float>(draws.normal(i)), zero_points[i] = draws.bits(i) % 16;
            for (size_t i = 0; i < group_of.size(); ++i)
              group_of[i] = static_cast<int32_t>(
                  draws.below(i, static_cast<uint64_t>(std::max<int64_t>(1, groups.groups))));
            groups.scales = scales.data();
            if (zeros) groups.zeros = zero_points.data();
            if (scattered) groups.group_of = group_of.data();
            auto stored = random_bytes(static_cast<size_t>((kFirst + kRows) * columns / 2), 5);
            std::vector<float> expected(static_cast<size_t>(kRows * columns));
            decode_packed4(reinterpret_cast<const std::byte*>(stored.data()), columns, groups, kFirst, kRows,
                           0, columns, expected.data());
            Buffer part(static_cast<size_t>(kRows * columns / 2));
            std::memcpy(part.data(), stored.data() + kFirst * columns / 2,
                        static_cast<size_t>(kRows * columns / 2));
            DecodeJob job;
            job.type = WeightType::packed4, job.stored = part.data(), job.rows = kRows, job.columns = columns;
            job.book = groups.book, job.scales = groups.scales, job.zeros = groups.zeros;
            job.group_of = groups.group_of, job.first_row = kFirst, job.scale_columns = groups.groups;
            job.block_columns = group_columns, job.high_first = groups.high_first;
            SCOPED_TRACE(testing::Message()
                         << columns << " columns in groups of " << group_columns << ", run on " << run_on
                         << ", zeros " << zeros << ", scattered " << scattered);
            expect_decoded(job, expected);
          }
}

// One block decodes four tiles, so that a tile that is filled too early overwrites one that is read.
TEST(DecodeKernels, EachBarrierIsNeeded) {
  for (const auto type : {WeightType::q4_0, WeightType::q6_k, WeightType::nf4, WeightType::iq3_s}) {
    const int64_t columns = 4 * kTileElements;
    auto stored = random_bytes(*row_bytes(type, static_cast<uint64_t>(columns)), 1);
    Buffer out(static_cast<size_t>(2 * columns));
    DecodeJob job;
    job.type = type, job.stored = stored.data(), job.rows = 1, job.columns = columns;
    job.book = decode_book(type).data(), job.out = out.data();
    const auto barriers = run_decode(job, {});
    EXPECT_EQ(barriers, 8);
    for (int64_t without = 0; without + 1 < barriers; ++without)  // nothing follows the last
      for (const uint64_t order : {0, 1, 2}) {
        Launch launch;
        launch.without = without, launch.order = order;
        EXPECT_THROW(run_decode(job, launch), std::runtime_error)
            << type_info(type).name << " without barrier " << without << ", order " << order;
      }
  }
  // A book is looked up by threads other than those that copied it.
  const int64_t columns = 256;
  auto stored = random_bytes(*row_bytes(WeightType::nf4_dq, columns), 1);
  Buffer out(2 * columns);
  DecodeJob job;
  job.type = WeightType::nf4_dq, job.stored = stored.data(), job.rows = 1, job.columns = columns;
  job.book = decode_book(job.type).data(), job.out = out.data();
  Launch launch;
  launch.without = 0;
  EXPECT_THROW(run_decode(job, launch), std::runtime_error);
}

}  // namespace
}  // namespace retort
