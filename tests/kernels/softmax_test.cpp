// The softmax of a chunk of logits on the CPU: bit for bit what its scalar definition gives, whose order of
// sums is the kernel's, and near to what double precision gives.
#include "kernels/softmax_body.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

// The lanes' sums one after the other, then in pairs.
float log_sum_of(const float* row, int64_t columns) {
  std::vector<ExpSum> lanes(kSoftmaxThreads);
  const int64_t step = columns % 4 == 0 ? 4 : 1;
  for (int64_t i = 0; i < columns; ++i) {
    auto& lane = lanes[static_cast<size_t>(i / step % kSoftmaxThreads)];
    lane = plus_exp(lane, row[i]);
  }
  for (size_t half = kSoftmaxThreads / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) lanes[i] = Together()(lanes[i], lanes[i + half]);
  return log_of(lanes[0]);
}

struct Chunk {
  int64_t rows, columns;
  std::vector<Words> memory;
  std::vector<float> weights, log_sums;

  Chunk(int64_t row_count, int64_t column_count)
      : rows(row_count),
        columns(column_count),
        memory(static_cast<size_t>(rows * columns) / 4 + 1),
        log_sums(static_cast<size_t>(rows)) {
    const Draws draws(8, "logits");
    for (int64_t i = 0; i < rows * columns; ++i)
      logits()[i] = static_cast<float>(5 * draws.normal(static_cast<uint64_t>(i)));
    for (int64_t r = 0; r < rows; ++r) weights.push_back(0.5f * static_cast<float>(r));
  }
  float* logits() { return reinterpret_cast<float*>(memory.data()); }
  int64_t run(Launch launch, bool gradient = true) {
    launch.threads = kSoftmaxThreads, launch.shared_bytes = kSoftmaxShared;
    const SoftmaxJob job{logits(), rows, columns, log_sums.data(), gradient ? weights.data() : nullptr};
    return run_blocks(launch, [&](EmulatedThread& threads) { softmax_gradient(threads, job); });
  }
};

TEST(SoftmaxKernel, EqualsItsScalarDefinition) {
  for (const int64_t columns : {1, 3, 4, 1000, 1501, 2052})
    for (const uint64_t order : {0, 1, 2}) {
      SCOPED_TRACE(testing::Message() << columns << " columns, order " << order);
      Chunk chunk(5, columns), before(5, columns);
      Launch launch;
      launch.blocks = 2, launch.order = order;
      chunk.run(launch);
      for (int64_t r = 0; r < 5; ++r) {
        const float* row = before.logits() + r * columns;
        const float log_sum = log_sum_of(row, columns);
        ASSERT_EQ(bits_of(chunk.log_sums[static_cast<size_t>(r)]), bits_of(log_sum)) << r;
        double sum = 0;
        for (int64_t i = 0; i < columns; ++i) sum += std::exp(static_cast<double>(row[i]));
        EXPECT_NEAR(log_sum, std::log(sum), 2e-6 * std::max(1.0, std::fabs(std::log(sum))));
        const float weight = before.weights[static_cast<size_t>(r)];
        for (int64_t i = 0; i < columns; ++i) {
          const float value = chunk.logits()[r * columns + i];
          ASSERT_EQ(bits_of(value), bits_of(std::exp(row[i] - log_sum) * weight)) << r << " " << i;
        }
      }
    }
}

TEST(SoftmaxKernel, LeavesLogitsAloneWhereNoGradientIsAsked) {
  Chunk chunk(3, 100), before(3, 100);
  chunk.run({}, false);
  for (int64_t i = 0; i < 300; ++i) EXPECT_EQ(chunk.logits()[i], before.logits()[i]);
  EXPECT_EQ(chunk.log_sums[2], log_sum_of(before.logits() + 200, 100));
}

TEST(SoftmaxKernel, EachBarrierIsNeeded) {
  Chunk chunk(2, 1024);
  const auto barriers = chunk.run({});
  EXPECT_EQ(barriers, 2 * 10);
  for (int64_t without = 0; without + 1 < barriers; ++without) {  // nothing follows the last
    Launch launch;
    launch.without = without;
    EXPECT_THROW(chunk.run(launch), std::runtime_error) << without;
  }
}

}  // namespace
}  // namespace retort
