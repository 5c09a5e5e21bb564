// The indexer's loss against the same composed of LibTorch's operations.
#include "ops/index_loss.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

// A text of 40, and one that goes on from its token 25.
Forest branched() {
  Forest forest;
  const auto root = forest.add_segment(std::vector<int32_t>(25, 1));
  forest.add_segment(std::vector<int32_t>(15, 2), root);
  forest.add_segment(std::vector<int32_t>(9, 3), root);
  return forest;
}

TEST(IndexLoss, ValueAndGradientsEqualTheDefinition) {
  const auto pass = make_pass(branched(), at::kFloat);
  const auto n = pass.size();
  auto seen = at::zeros({n, n}, at::TensorOptions(at::kBool));
  for (const auto& block : pass.blocks)
    for (auto row = block.q_begin; row < block.q_end; ++row)
      for (const auto& range : block.keys)
        for (auto key = range.begin; key < range.end; ++key)
          if (key < block.q_begin || key >= block.q_end || key <= row) seen[row][key] = true;
  const auto q = random({n, 3, 6}, 1).requires_grad_(), k = random({n, 1, 6}, 2).requires_grad_(),
             w = random({n, 3}, 3).requires_grad_();
  for (const int64_t shared : {1, 4})
    for (const int64_t top : {1000, 7}) {
      const Attended attended{random({n, 4, 8}, 4), random({n, shared, 8}, 5), 0.3};
      const auto chosen = top < n ? choose_keys(q, k, w, top, 0, pass) : nullptr;
      auto counted = seen;
      if (chosen) {
        counted = at::zeros_like(seen);
        for (int64_t row = 0; row < n; ++row)
          for (auto i = chosen->first[static_cast<size_t>(row)];
               i < chosen->first[static_cast<size_t>(row) + 1]; ++i)
            counted[row][chosen->rows[static_cast<size_t>(i)]] = true;
      }
      const auto hidden = counted.logical_not();
      const auto z = at::einsum("nhd,mhd->nhm", {attended.q, attended.k.expand({n, 4, 8})}) * 0.3;
      const auto p = z.masked_fill(hidden.unsqueeze(1), -1e30).softmax(2).mean(1);
      const auto index = (w.unsqueeze(2) * at::relu(at::einsum("njd,md->njm", {q, k.squeeze(1)}))).sum(1);
      const auto log_share = index.masked_fill(hidden, -1e30).log_softmax(1);
      const auto expected =
          at::where(counted, p * (p.clamp_min(1e-30).log() - log_share), at::zeros_like(p)).sum();
      const auto found = index_loss(q, k, w, attended, chosen, pass);
      EXPECT_NEAR(found.item<double>() / expected.item<double>(), 1, 1e-5);
      const auto ours = torch::autograd::grad({found * 2}, {q, k, w}),
                 theirs = torch::autograd::grad({expected * 2}, {q, k, w});
      for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(ours[i], theirs[i]), 1e-5) << i << " " << top;
    }
}

TEST(IndexLoss, BeginsWithTheBackwardOfWhatItIsPutOn) {
  const auto x = random({3, 2}, 1).requires_grad_(), y = random({4}, 2).requires_grad_();
  const auto both = with_loss(x, y.square().sum());
  EXPECT_TRUE(at::equal(both, x));
  const auto gradients = torch::autograd::grad({(both * 5).sum()}, {x, y});
  EXPECT_TRUE(at::equal(gradients[0], at::full({3, 2}, 5.0f)));
  EXPECT_TRUE(at::equal(gradients[1], 2 * y.detach()));
}

}  // namespace
}  // namespace retort
