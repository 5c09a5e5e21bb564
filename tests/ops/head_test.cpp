// The head fused with its loss against logits written out, on rows and vocabularies that are split over
// threads.
#include "ops/head.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/composed.h"
#include "ops/head_sweep.h"
#include "ops/int8_gemm.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

class InnerThreads {
 public:
  explicit InnerThreads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~InnerThreads() { at::set_num_threads(before_); }

 private:
  int before_;
};

// sum_i w_i (log sum exp z - z_label) by LibTorch in fp32, z [N,V] of all rows.
Tensor reference_loss(const Tensor& hidden, const Tensor& matrix, std::span<const Target> targets,
                      double cap) {
  auto z = at::matmul(hidden, matrix.t());
  if (cap > 0) z = cap * at::tanh(z / cap);
  auto weights = at::zeros({hidden.size(0), matrix.size(0)}, at::TensorOptions(at::kFloat));
  auto all = weights.accessor<float, 2>();
  for (const auto& target : targets) all[target.row][target.label] += target.weight;
  return -(weights * z.log_softmax(-1)).sum();
}

std::vector<Target> targets_of(
    int64_t n, int64_t vocabulary) {  // every third row unsupervised, every fifth with a second label
  std::vector<Target> targets;
  for (int64_t i = 0; i < n; ++i) {
    if (i % 3 == 1) continue;
    targets.push_back({static_cast<int32_t>(i), static_cast<int32_t>(i * 37 % vocabulary),
                       0.5f + 0.25f * static_cast<float>(i % 4), 0});
    if (i % 5 == 0)
      targets.push_back(
          {static_cast<int32_t>(i), static_cast<int32_t>(vocabulary - 1 - i % vocabulary), 0.3f, 1});
  }
  return targets;
}

TEST(Head, LossScoresAndGradientsInBothTypesOnRowsAndVocabulariesSplitOverThreads) {
  for (const auto& [n, vocabulary, width] :
       std::vector<std::array<int64_t, 3>>{{5, 31, 16}, {40, 1000, 33}, {420, 777, 64}})
    for (const double cap : {0.0, 3.0})
      for (const auto type : {at::kFloat, at::kBFloat16})
        for (const int threads : {1, 2, 3}) {
          const InnerThreads inner(threads);
          const auto where = "rows " + std::to_string(n) + " cap " + std::to_string(cap) + " threads " +
                             std::to_string(threads);
          Head head;
          head.soft_cap = cap;
          head.linear.weight = dense_weight((random({vocabulary, width}, 1) * 0.2).to(type));
          const auto hidden = random({n, width}, 2).to(type).requires_grad_(),
                     wide = hidden.detach().to(at::kFloat).requires_grad_();
          const auto matrix = head.linear.weight.dense.to(at::kFloat);
          const auto targets = targets_of(n, vocabulary);
          const auto loss = cross_entropy(hidden, targets, head, Pass{});
          const auto reference = reference_loss(wide, matrix, targets, cap);
          EXPECT_NEAR(loss.nats.item<double>() / reference.item<double>(), 1, 2e-6) << where;
          const double tolerance =
              type == at::kFloat ? 1e-5 : 1e-2;  // bf16 probabilities and a bf16 gradient
          EXPECT_LT(distance(torch::autograd::grad({loss.nats}, {hidden})[0],
                             torch::autograd::grad({reference}, {wide})[0]),
                    tolerance)
              << where;
          const auto scores = score_targets(hidden, targets, head, Pass{});
          const auto z = at::matmul(wide, matrix.t()),
                     log_p = (cap > 0 ? cap * at::tanh(z / cap) : z).log_softmax(-1).detach();
          const auto best = log_p.argmax(-1);
          const auto* ours = scores.log_probabilities.const_data_ptr<float>();
          const auto theirs = log_p.accessor<float, 2>();
          for (size_t i = 0; i < targets.size(); ++i) {
            EXPECT_NEAR(ours[i], theirs[targets[i].row][targets[i].label], 2e-5) << where;
            EXPECT_EQ(scores.argmax.const_data_ptr<int64_t>()[i],
                      best.const_data_ptr<int64_t>()[targets[i].row])
                << where;
          }
          EXPECT_LT(distance(logits(hidden, std::vector<int32_t>{4, 0}, head, Pass{}),
                             at::stack({cap > 0 ? cap * at::tanh(z[4] / cap) : z[4],
                                        cap > 0 ? cap * at::tanh(z[0] / cap) : z[0]})),
                    1e-5);
        }
}

TEST(Head, EveryStoredTypeEqualsItsWidenedSelf) {
  const int64_t vocabulary = 700, width = 256;
  const auto hidden = random({37, width}, 2).requires_grad_();
  const auto targets = targets_of(37, vocabulary);
  for (const auto type : {WeightType::bf16, WeightType::f16, WeightType::q8_0, WeightType::q4_1,
                          WeightType::q6_k, WeightType::nf4, WeightType::int8_row}) {
    Head head;
    head.linear.weight = convert_weight(dense_weight(random({vocabulary, width}, 1) * 0.1), type);
    const auto loss = cross_entropy(hidden, targets, head, Pass{}).nats,
               reference = reference_loss(hidden, widen(head.linear.weight, at::kFloat), targets, 0);
    EXPECT_NEAR(loss.item<double>() / reference.item<double>(), 1, 2e-6) << type_info(type).name;
    EXPECT_LT(
        distance(torch::autograd::grad({loss}, {hidden})[0], torch::autograd::grad({reference}, {hidden})[0]),
        1e-5)
        << type_info(type).name;
  }
}

// Weights of 8 bits with a scale a row and probabilities of 8 bits with one in 96: half a percent of the
// gradient. The loss is none of it.
TEST(Head, IntegersLeaveTheLossExactAndTheGradientClose) {
  if (!int8_kernel()) GTEST_SKIP() << "no AVX-512 VNNI";
  if (composed(at::zeros({1}))) GTEST_SKIP() << "the composed form has no integers";
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const auto stored : {WeightType::bf16, WeightType::q8_0})
      for (const int64_t vocabulary : {700, 2001}) {
        const int64_t n = 150, width = 96;
        Head head;
        head.soft_cap = 20;
        head.linear.weight = convert_weight(dense_weight(random({vocabulary, width}, 1) * 0.3), stored);
        const auto targets = targets_of(n, vocabulary);
        const auto hidden = random({n, width}, 2).to(type).requires_grad_();
        const auto exact = cross_entropy(hidden, targets, head, Pass{}).nats;
        head.linear.int8_scales = int8_row_scales(head.linear.weight);
        const auto loss = cross_entropy(hidden, targets, head, Pass{}).nats;
        EXPECT_NEAR(loss.item<double>() / exact.item<double>(), 1, 1e-6);
        const auto wide = hidden.detach().to(at::kFloat).requires_grad_();
        const auto reference = torch::autograd::grad(
            {reference_loss(wide, widen(head.linear.weight, at::kFloat), targets, 20)}, {wide})[0];
        const auto off = distance(torch::autograd::grad({loss}, {hidden})[0], reference);
        EXPECT_LT(off, type == at::kFloat ? 0.01 : 0.015) << type_info(stored).name << " " << vocabulary;
        if (type == at::kFloat && gemm_kernel(Operand::f32).lanes == 16) {
          EXPECT_GT(off, 1e-5);  // integers did run
        }
        auto poisoned = hidden.detach().clone();
        poisoned[3][5] = NAN;
        poisoned.requires_grad_();
        const auto gradient =
            torch::autograd::grad({cross_entropy(poisoned, targets, head, Pass{}).nats}, {poisoned})[0];
        EXPECT_TRUE(gradient[3].isnan().all().item<bool>());
        EXPECT_FALSE(gradient[5].isnan().any().item<bool>());
      }
}

TEST(Head, LargeLogitsInRisingOrderKeepTheRunningSum) {  // every part of the vocabulary raises the largest
                                                         // logit so far
  Head head;
  const int64_t vocabulary = 2000;
  head.linear.weight = dense_weight(at::arange(vocabulary, at::TensorOptions(at::kFloat)).unsqueeze(1) *
                                    at::ones({1, 8}) * 0.05);
  const auto hidden = at::ones({3, 8}, at::TensorOptions(at::kFloat)).requires_grad_();
  const std::vector<Target> targets = {{0, 1999, 1, 0}, {1, 0, 1, 0}, {2, 1000, 1, 0}};
  const auto loss = cross_entropy(hidden, targets, head, Pass{}).nats;
  // z_v = 0.4 v: log sum = 0.4 * 1999 - log(1 - e^-0.4), less what is below the float's last place.
  const double log_sum = 0.4 * 1999 - std::log1p(-std::exp(-0.4));
  EXPECT_NEAR(loss.item<double>() / (3 * log_sum - 0.4 * (1999 + 0 + 1000)), 1, 1e-6);
  EXPECT_LT(distance(torch::autograd::grad({loss}, {hidden})[0],
                     torch::autograd::grad({reference_loss(hidden, head.linear.weight.dense, targets, 0)},
                                           {hidden})[0]),
            1e-5);
}

// Where the model is nearly sure of what is asked, q - p is small: bf16 keeps two digits of it, not of q.
TEST(Head, ConfidentRowsKeepTheirGradientInBf16) {
  const int64_t n = 8, vocabulary = 40;
  auto matrix = at::zeros(
      {vocabulary, n},
      at::TensorOptions(at::kFloat));  // logits exact in bf16: row r of the hidden states is unit vector r
  for (int64_t v = 0; v < vocabulary; ++v)
    for (int64_t r = 0; r < n; ++r)
      matrix[v][r] = v == r + 3 ? 5.0 + static_cast<double>(r) : 0.5 * static_cast<double>((v * 7 + r) % 3);
  for (const double cap : {0.0, 40.0}) {
    std::vector<Target> targets;
    for (int32_t r = 0; r < n; ++r) {
      targets.push_back({r, r + 3, 0.75f, 0});
      targets.push_back({r, r + 3, 0.125f, 1});  // the same label again
      if (r % 2) targets.push_back({r, 30, 0.0009765625f, 1});
    }
    Head head;
    head.soft_cap = cap;
    head.linear.weight = dense_weight(matrix.clone().requires_grad_());
    const auto hidden = at::eye(n).to(at::kBFloat16).requires_grad_();
    const auto ours = torch::autograd::grad({cross_entropy(hidden, targets, head, Pass{}).nats},
                                            {head.linear.weight.dense})[0];
    auto z = matrix.clone();
    if (cap > 0) z = cap * at::tanh(z / cap);
    if (cap > 0 && !composed(z)) z = z.to(at::kBFloat16).to(at::kFloat);  // as the kernels' head has them
    const auto slope = cap > 0 ? 1 - (z / cap).square() : at::ones_like(z);
    const auto q = z.t().to(at::kDouble).softmax(-1);
    for (const auto& target : targets) {
      const auto r = target.row, label = target.label;
      double total = 0, mine = 0;
      for (const auto& each : targets)
        if (each.row == r) total += each.weight, mine += each.label == label ? each.weight : 0;
      const double exact = (total * q[r][label].item<double>() - mine) * slope[label][r].item<double>();
      EXPECT_NEAR(ours[label][r].item<double>() / exact, 1, 5e-3)
          << "row " << r << " label " << label << " cap " << cap << " q " << q[r][label].item<double>();
    }
  }
}

TEST(Head, AHeadThatLearnsGetsItsGradientAndLeavesNoRowOut) {
  for (const auto& [type, rows] : std::vector<std::pair<at::ScalarType, int64_t>>{
           {at::kFloat, 50}, {at::kBFloat16, 50}, {at::kFloat, 4500}}) {  // the last: several chunks
    Head head;
    head.soft_cap = 3;
    head.linear.weight = dense_weight(
        (random({300, 32}, 1) * 0.2).requires_grad_());  // an fp32 master, met in the compute type
    const auto hidden = random({rows, 32}, 2).to(type).requires_grad_(),
               wide = hidden.detach().to(at::kFloat).requires_grad_();
    const auto targets = targets_of(rows, 300);
    const auto loss = cross_entropy(hidden, targets, head, Pass{}).nats;
    const auto reference = reference_loss(wide, head.linear.weight.dense, targets, 3);
    const auto ours = torch::autograd::grad({loss}, {hidden, head.linear.weight.dense}),
               theirs = torch::autograd::grad({reference}, {wide, head.linear.weight.dense});
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LT(distance(ours[i], theirs[i]), type == at::kFloat ? 1e-5 : 2e-2) << i;
  }
}

}  // namespace
}  // namespace retort
