// Folding an adapter into its layer.
#include "adapters/merge.h"

#include <gtest/gtest.h>

#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

TEST(Merge, DoraLeavesRowsOfZerosAlone) {
  auto w = random({6, 32}, 1);
  const auto a = random({2, 32}, 2);
  auto b = random({6, 2}, 3);
  w[1].zero_();
  b[1].zero_();
  w[2].zero_();
  Linear layer;
  layer.weight = dense_weight(w);
  layer.adapter = LowRank{a, b, w.norm(2, {1}), 0.5, 0};
  const auto merged = merged_rows(layer, 0, 6);
  EXPECT_TRUE(merged.isfinite().all().item<bool>());
  EXPECT_EQ(merged[1].abs().sum().item<float>(), 0);
  EXPECT_EQ(merged[2].abs().sum().item<float>(), 0);  // has a direction, and a magnitude of zero
  for (const int64_t row : {0, 3, 4, 5})
    EXPECT_NEAR(merged[row].norm().item<double>(), w[row].norm().item<double>(), 1e-4);
}

}  // namespace
}  // namespace retort
