#include "distill/quality.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "forest/random_samples.h"  // tests/forest
#include "models/golden_llama.h"    // tests/models
#include "text/byte_tokenizer.h"    // tests/text

namespace retort {
namespace {

TEST(Quality, EqualsTheDefinitions) {
  const auto teacher = golden_llama().model, student = golden_llama(5, 0.5).model;
  const auto samples = random_samples(Draws(2, "quality"), 3, 15);
  const auto forests = build_forests(samples, 20);  // three forests
  const auto vocabulary = teacher->head.linear.weight.rows;
  const ComputedModel asked{*teacher};
  const auto all =
      measure_quality(&asked, {{*student}, {*teacher}}, forests, {ByteTokenizer({}), vocabulary, 2});
  ASSERT_EQ(all.size(), 3u);

  double forward = 0, reverse = 0, accepted = 0, top1 = 0, top5 = 0, nats = 0;
  std::vector<std::pair<double, bool>> answers;  // confidence, right
  int64_t rows = 0;
  for (const auto& forest : forests) {
    const at::NoGradGuard no_graph;
    const auto pass = make_pass(forest, at::kFloat);
    const auto p_all = teacher->hidden(pass), q_all = student->hidden(pass);
    for (const auto& target : forest.targets) {
      const std::vector<int32_t> row{target.row};
      const auto p = logits(p_all, row, teacher->head, pass)[0].to(at::kDouble).softmax(-1),
                 q = logits(q_all, row, student->head, pass)[0].to(at::kDouble).softmax(-1);
      forward += (p * (p / q).log()).sum().item<double>();
      reverse += (q * (q / p).log()).sum().item<double>();
      accepted += at::minimum(p, q).sum().item<double>();
      top1 += p.argmax().item<int64_t>() == q.argmax().item<int64_t>();
      const auto a = std::get<1>(p.topk(5)), b = std::get<1>(q.topk(5));
      for (int64_t i = 0; i < 5; ++i) top5 += (a[i] == b).any().item<bool>() / 5.0;
      nats -= q[target.label].log().item<double>();
      answers.emplace_back(q.max().item<double>(), q.argmax().item<int64_t>() == target.label);
      ++rows;
    }
  }
  double calibration = 0;
  for (int bin = 0; bin < 15; ++bin) {
    double confidence = 0, right = 0;
    for (const auto& [c, r] : answers)
      if (static_cast<int>(c * 15) == bin) confidence += c, right += r;
    calibration += std::abs(confidence - right) / static_cast<double>(rows);
  }
  const auto count = static_cast<double>(rows);
  const auto& ours = all[0];
  EXPECT_EQ(ours.rows, rows);
  EXPECT_NEAR(ours.forward_kl, forward / count, 1e-5);
  EXPECT_NEAR(ours.reverse_kl, reverse / count, 1e-5);
  EXPECT_GT(std::abs(ours.forward_kl - ours.reverse_kl), 1e-3);
  EXPECT_NEAR(ours.acceptance, accepted / count, 1e-5);
  EXPECT_NEAR(ours.top1, top1 / count, 1e-9);
  EXPECT_NEAR(ours.top5, top5 / count, 1e-9);
  EXPECT_NEAR(ours.nats, nats / count, 1e-5);
  EXPECT_NEAR(ours.calibration_error, calibration, 1e-5);
  EXPECT_NEAR(ours.bits_per_byte, nats / count / std::log(2), 1e-5);  // one byte a token
  for (size_t m = 1; m < 3; ++m) {
    EXPECT_NEAR(all[m].forward_kl, 0, 1e-9);
    EXPECT_NEAR(all[m].acceptance, 1, 1e-5);
    EXPECT_EQ(all[m].top1, 1);
    EXPECT_NEAR(all[m].top5, 1, 1e-9);
  }
}

// Half of the drafted tokens accepted: 1 + 1/2 + 1/4 + 1/8 + 1/16.
TEST(Quality, AcceptanceLengthByHand) {
  Quality quality;
  quality.acceptance = 0.5;
  EXPECT_NEAR(quality.acceptance_length(), 1.9375, 1e-12);
  quality.acceptance = 1;
  EXPECT_EQ(quality.acceptance_length(), 5);
}

}  // namespace
}  // namespace retort
