// A cache that grows on a device that LibTorch takes for another (tests/ops/pretend_device.h) gives the
// states of one in the CPU's memory.
#include <gtest/gtest.h>

#include "generate/growing_forest.h"
#include "ops/composed.h"
#include "ops/pretend_device.h"  // tests/ops
#include "ops/tensors.h"         // tests/ops
#include "where.h"               // tests

namespace retort {
namespace {

class CacheOnADevice : public testing::TestWithParam<const char*> {};

TEST_P(CacheOnADevice, HoldsWhatOneInMemoryHolds) {
  const auto loaded = load_weights(
      {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / GetParam()).string()});
  auto& model = *loaded.model;
  const auto states = [&](at::Device device, KvType kv) {
    const ComposedScope scope(true);
    const at::NoGradGuard no_graph;
    model.compute_on(device);
    GrowingForest forest(model, at::kFloat, kv);
    std::vector<Tensor> all{forest.enter({{5, 6, 7, 8, 9, 10, 11}, {5, 6, 7, 8, 20, 21}}, 30, 3)};
    for (int32_t i = 0; i < 4; ++i)
      all.push_back(forest.step(std::vector<int32_t>{0, 1}, std::vector<int32_t>{30 + i, 40 + i}));
    forest.leave(0);
    all.push_back(forest.enter({{5, 6, 7, 8, 50}}, 3));  // the cache grows, rows are given up
    all.push_back(forest.extend(1, std::vector<int32_t>{12, 13, 14}));
    const auto hidden = at::cat(all);
    EXPECT_EQ(hidden.device(), device);
    return logits(hidden, std::vector<int32_t>{0, 3, 9, 11}, model.head, Pass{});
  };
  for (const auto kv : {KvType::f32, KvType::int8}) {
    const auto here = states(at::kCPU, kv), there = states(pretend::kDevice, kv);
    EXPECT_TRUE(there.is_cpu());
    // A code of 8 bits may fall on the other side of a half.
    EXPECT_LT(distance(there, here.to(at::kDouble)), kv == KvType::f32 ? 1e-5 : 1e-2);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CacheOnADevice,
                         testing::Values("llama", "gemma3", "mixtral", "ministral3", "deepseek_v3",
                                         "deepseek_v32_sparse", "deepseek_v2", "glm4_moe_lite", "kimi_k2",
                                         "mistral4"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace retort
