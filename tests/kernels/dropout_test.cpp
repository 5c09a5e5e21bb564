// Dropout's kernel on the CPU against the loop of ops/linear.cpp, written out here.
#include "kernels/dropout_body.h"

#include <gtest/gtest.h>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

template <class Number> void expect_dropped(int64_t count) {
  const Draws draws(0xFEDCBA9876543210ull, "model.layers.0.self_attn.q_proj");
  std::vector<Words> in(static_cast<size_t>(count) * sizeof(Number) / 16 + 2), out(in.size());
  auto* x = reinterpret_cast<Number*>(in.data());
  for (int64_t i = 0; i < count; ++i)
    narrow_to(x[i], static_cast<float>(draws.normal(static_cast<uint64_t>(i))));
  DropoutJob job;
  job.in = x, job.out = out.data(), job.count = count, job.key = draws.key();
  job.threshold = 19661, job.scale = 1 / 0.7f;  // a rate of 0.3
  for (const uint64_t order : {0, 1, 2}) {
    Launch launch;
    launch.blocks = 2, launch.threads = kDropoutThreads, launch.order = order;
    run_blocks(launch, [&](EmulatedThread& threads) { drop<Number>(threads, job); });
    const auto* y = reinterpret_cast<const Number*>(out.data());
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      const bool keep = (draws.bits(static_cast<uint64_t>(i / 4)) >> (i % 4 * 16) & 0xFFFF) >= 19661;
      kept += keep;
      Number expected{};
      narrow_to(expected, keep ? as_float(x[i]) * job.scale : 0.0f);
      ASSERT_EQ(y[i], expected) << i;
    }
    if (count > 1000) { EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(count), 0.7, 0.02); }
    EXPECT_EQ(y[count], Number{}) << "wrote beyond the end";
  }
}

TEST(DropoutKernel, DrawsAsTheCpuDoes) {
  for (const int64_t count : {1, 7, 8, 4001, 9216}) {
    expect_dropped<float>(count);
    expect_dropped<uint16_t>(count);
  }
}

}  // namespace
}  // namespace retort
