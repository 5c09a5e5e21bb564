// Losses over chunks of logits against plain LibTorch in fp64.
#include "ops/head_rows.h"
#include "ops/tensors.h"  // tests/ops

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace retort {
namespace {

constexpr int64_t kRows = 9, kWidth = 16, kVocabulary = 21, kMatrix = 24;  // three rows of padding
const std::vector<int32_t> kAsked = {1, 4, 4, 7};

Pass pass_of(at::ScalarType compute) {
  Forest forest;
  forest.add_segment(std::vector<int32_t>(kRows, 1));
  return make_pass(forest, compute);
}

// hidden W^T over the shared vocabulary, capped, for the asked rows, in fp64.
Tensor reference_logits(const Tensor& hidden, const Tensor& w, double cap) {
  const auto index =
      at::tensor(std::vector<int64_t>(kAsked.begin(), kAsked.end()), at::TensorOptions(at::kLong));
  auto z =
      at::linear(hidden.to(at::kDouble).index_select(0, index), w.to(at::kDouble)).narrow(1, 0, kVocabulary);
  return cap > 0 ? cap * at::tanh(z / cap) : z;
}

TEST(LossOverLogits, ValueAndGradientsEqualTheDefinition) {
  const auto p = random({4, kVocabulary}, 9).to(at::kDouble).softmax(-1);
  for (const double cap : {0.0, 2.5}) {
    auto hidden = random({kRows, kWidth}, 1).requires_grad_(),
         w = random({kMatrix, kWidth}, 2).requires_grad_();
    w.detach()
        .narrow(0, kVocabulary, kMatrix - kVocabulary)
        .fill_(100);  // padding that would win every softmax
    const Head head{Linear{"lm_head", dense_weight(w), {}, {}, {}, {}}, cap};
    const auto pass = pass_of(at::kFloat);
    const auto ours =
        loss_over_logits(hidden, kAsked, {head, kVocabulary}, pass, [&](LogitRows& chunk, bool gradient) {
          EXPECT_EQ(chunk.logits.size(1), kVocabulary);
          const auto target =
              p.narrow(0, static_cast<int64_t>(chunk.first), chunk.logits.size(0)).to(at::kFloat);
          const auto log_q = chunk.logits.log_softmax(-1);
          if (gradient) chunk.logits.copy_(log_q.exp() - target);
          return -(target * log_q).sum().item<double>();
        });
    const auto reference = -(p * reference_logits(hidden, w, cap).log_softmax(-1)).sum();
    EXPECT_NEAR(ours.item<double>() / reference.item<double>(), 1, 1e-6);
    const auto gradients = torch::autograd::grad({ours}, {hidden, w}),
               expected = torch::autograd::grad({reference}, {hidden, w});
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LT(distance(gradients[i], expected[i].to(at::kDouble)), 2e-6) << i << " cap " << cap;
    EXPECT_EQ(gradients[0][0].abs().max().item<double>(), 0);  // a row that nobody asked for
    EXPECT_EQ(gradients[1].narrow(0, kVocabulary, 3).abs().max().item<double>(), 0);  // padding
  }
}

TEST(LossOverIds, ValueAndGradientsEqualTheDefinition) {
  IdRows rows{kAsked, {0, 5, 20, 3, 3, 4, 20}, {0, 3, 4, 7, 7}};  // the last row asks for none
  const std::vector<float> a = {0.5f, 1.5f, 0.25f, 2, 0.125f, 1, 3};
  for (const double temperature : {1.0, 2.0})
    for (const double cap : {0.0, 2.5}) {
      rows.temperature = temperature;
      auto hidden = random({kRows, kWidth}, 3).requires_grad_(),
           w = random({kMatrix, kWidth}, 4).requires_grad_();
      w.detach().narrow(0, kVocabulary, kMatrix - kVocabulary).fill_(100);
      const Head head{Linear{"lm_head", dense_weight(w), {}, {}, {}, {}}, cap};
      // -sum_i a_i log q_i: gradient (sum a) q - a
      const auto weighted = [&](size_t row, std::span<const float> log_q, std::span<float> corrections) {
        IdLoss loss;
        for (size_t i = 0; i < log_q.size(); ++i) {
          const float weight = a[rows.offsets[row] + i];
          loss.nats -= static_cast<double>(weight) * log_q[i];
          loss.softmax += weight;
          corrections[i] = -weight;
        }
        return loss;
      };
      const auto ours = loss_over_ids(hidden, rows, {head, kVocabulary}, pass_of(at::kFloat), weighted);
      const auto log_q = (reference_logits(hidden, w, cap) / temperature).log_softmax(-1);
      auto reference = at::zeros({}, at::TensorOptions(at::kDouble));
      for (size_t row = 0; row < rows.rows.size(); ++row)
        for (auto i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i)
          reference = reference - log_q[static_cast<int64_t>(row)][rows.ids[i]] * a[i];
      EXPECT_NEAR(ours.item<double>() / reference.item<double>(), 1, 1e-6);
      const auto gradients = torch::autograd::grad({ours * 0.5}, {hidden, w}),
                 expected = torch::autograd::grad({reference * 0.5}, {hidden, w});
      for (size_t i = 0; i < 2; ++i)
        EXPECT_LT(distance(gradients[i], expected[i].to(at::kDouble)), 2e-6)
            << i << " T " << temperature << " cap " << cap;

      const Head frozen{Linear{"lm_head", dense_weight(w.detach()), {}, {}, {}, {}},
                        cap};  // goes through the sweep
      const auto swept = loss_over_ids(hidden, rows, {frozen, kVocabulary}, pass_of(at::kFloat), weighted);
      EXPECT_NEAR(swept.item<double>() / reference.item<double>(), 1, 1e-6);
      EXPECT_LT(distance(torch::autograd::grad({swept * 0.5}, {hidden})[0], expected[0].to(at::kDouble)),
                2e-6)
          << "swept, T " << temperature << " cap " << cap;
    }
}

TEST(LossOverIds, RowsThatAreNotAskedForMayHoldAnything) {
  auto hidden = random({kRows, kWidth}, 5), w = random({kMatrix, kWidth}, 6);
  const Head head{Linear{"lm_head", dense_weight(w), {}, {}, {}, {}}, 0};
  const IdRows rows{{1, 7}, {2, 3}, {0, 1, 2}};
  const auto run = [&](Tensor states) {
    states.requires_grad_();
    const auto nats = loss_over_ids(states, rows, {head, kVocabulary}, pass_of(at::kFloat),
                                    [](size_t, std::span<const float> log_q, std::span<float> corrections) {
                                      corrections[0] = -1;
                                      return IdLoss{-log_q[0], 1};
                                    });
    return torch::autograd::grad({nats}, {states})[0];
  };
  auto spoiled = hidden.clone();
  for (const int64_t row : {0, 2, 3, 4, 5, 6, 8}) spoiled[row].fill_(row % 2 ? -INFINITY : NAN);
  EXPECT_TRUE(at::equal(run(hidden.clone()), run(spoiled)));
}

TEST(LossOverIds, Bf16LogitsAreSummedInFp32) {
  auto hidden = random({kRows, kWidth}, 7).to(at::kBFloat16),
       w = random({kMatrix, kWidth}, 8).to(at::kBFloat16);
  const Head head{Linear{"lm_head", dense_weight(w), {}, {}, {}, {}}, 0};
  const IdRows rows{{0}, {2}, {0, 1}};
  const auto ours = loss_over_ids(hidden, rows, {head, kMatrix}, pass_of(at::kBFloat16),
                                  [](size_t, std::span<const float> log_q, std::span<float>) {
                                    return IdLoss{-log_q[0], 1};
                                  });
  const auto z = at::linear(hidden[0].unsqueeze(0).to(at::kDouble),
                            w.to(at::kDouble));  // of the bf16 values, the rest in fp64
  EXPECT_NEAR(ours.item<double>(), -z.log_softmax(-1)[0][2].item<double>(), 1e-6);
}

}  // namespace
}  // namespace retort
