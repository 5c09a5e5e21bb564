// Evaluation on a device that LibTorch takes for another (tests/ops/pretend_device.h).
#include <gtest/gtest.h>

#include <cmath>

#include "eval/compare.h"
#include "eval/expert_use.h"
#include "eval/subject.h"
#include "ops/composed.h"
#include "ops/pretend_device.h"   // tests/ops
#include "text/byte_tokenizer.h"  // tests/text
#include "where.h"                // tests

namespace retort {
namespace {

LoadedModel golden(const std::string& family, at::Device device) {
  auto loaded =
      load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string()});
  loaded.model->compute_on(device);
  return loaded;
}

// Texts that begin with the same 20 tokens, which is worth a cache.
std::vector<Sample> some_samples() {
  std::vector<Sample> samples(6);
  for (int32_t s = 0; s < 6; ++s)
    for (int32_t i = 0; i < 30 + s; ++i) {
      samples[static_cast<size_t>(s)].tokens.push_back(3 + (i < 20 ? 7 * i : 11 * i + 13 * s) % 80);
      samples[static_cast<size_t>(s)].weights.push_back(i < 22 ? 0 : 1);
    }
  return samples;
}

TEST(EvalOnADevice, GivesTheLikelihoodsOfTheCpu) {
  const ComposedScope scope(true);
  const ByteTokenizer tokenizer({});
  for (const auto* family : {"llama", "qwen3_moe", "deepseek_v3", "deepseek_v2_groups", "mistral4"}) {
    SCOPED_TRACE(family);
    const auto by = [&](at::Device device) {
      const auto loaded = golden(family, device);
      Subject subject{*loaded.model, tokenizer};
      subject.threads = 1, subject.row_tokens = 64;
      return likelihoods(subject, some_samples());
    };
    const auto here = by(at::kCPU);
    const auto before = pretend::operations.load();
    const auto there = by(pretend::kDevice);
    EXPECT_GT(pretend::operations, before);
    for (size_t i = 0; i < here.size(); ++i) {
      EXPECT_LT(here[i].log_probability, 0);
      EXPECT_NEAR(there[i].log_probability / here[i].log_probability, 1, 1e-5);
      EXPECT_EQ(there[i].tokens, here[i].tokens);
    }
  }
}

TEST(EvalOnADevice, AModelAgreesWithItselfOnTheCpu) {
  const ComposedScope scope(true);
  const auto there = golden("gemma2", pretend::kDevice), here = golden("gemma2", at::kCPU);
  const auto agreement = compare_models({*there.model}, {*here.model}, build_forests(some_samples(), 64), 2);
  EXPECT_GT(agreement.rows, 40);
  EXPECT_LT(std::abs(agreement.kl_nats), 1e-6);
  EXPECT_EQ(agreement.top1, 1);
}

TEST(EvalOnADevice, ExpertsAreUsedAsByTheCpu) {
  const ComposedScope scope(true);
  const ByteTokenizer tokenizer({});
  const auto by = [&](at::Device device) {
    const auto loaded = golden("deepseek_v3", device);
    Subject subject{*loaded.model, tokenizer};
    subject.threads = 1;
    return measure_expert_use(subject, some_samples());
  };
  const auto here = by(at::kCPU), there = by(pretend::kDevice);
  ASSERT_FALSE(here.empty());
  ASSERT_EQ(there.size(), here.size());
  for (size_t i = 0; i < here.size(); ++i) {
    EXPECT_EQ(there[i].largest, here[i].largest);
    EXPECT_NEAR(there[i].entropy, here[i].entropy, 1e-6);
  }
}

}  // namespace
}  // namespace retort
