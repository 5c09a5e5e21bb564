// Attention to chosen keys, and the choice, against the same composed of LibTorch's operations.
#include "ops/attend_chosen.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

// A text of 45, three that go on from its token 30, and a text of its own.
Forest branched() {
  Forest forest;
  const auto root = forest.add_segment(std::vector<int32_t>(30, 1));
  const auto stem = forest.add_segment(std::vector<int32_t>(15, 2), root);
  forest.add_segment(std::vector<int32_t>(7, 3), stem);
  forest.add_segment(std::vector<int32_t>(33, 4), root);
  forest.add_segment(std::vector<int32_t>(11, 5));
  return forest;
}

// The rows that row n sees, in the order of its text.
std::vector<std::vector<int32_t>> seen_rows(const Pass& pass) {
  std::vector<std::vector<int32_t>> seen(static_cast<size_t>(pass.size()));
  for (const auto& block : pass.blocks)
    for (auto row = block.q_begin; row < block.q_end; ++row)
      for (const auto& range : block.keys)
        for (auto key = range.begin; key < range.end; ++key)
          if (key < block.q_begin || key >= block.q_end || key <= row)
            seen[static_cast<size_t>(row)].push_back(key);
  return seen;
}

std::vector<int32_t> chosen_for(const ChosenKeys& chosen, size_t row) {
  return {chosen.rows.begin() + chosen.first[row], chosen.rows.begin() + chosen.first[row + 1]};
}

TEST(ChooseKeys, TakesTheLargestOfTheDefinitionOverAForest) {
  const auto pass = make_pass(branched(), at::kFloat);
  const auto n = pass.size();
  const auto q = random({n, 5, 12}, 1), k = random({n, 1, 12}, 2), w = random({n, 5}, 3);
  const auto scores =
      at::einsum("njk,njd->nkd",
                 {w.unsqueeze(2).to(at::kDouble),
                  at::relu(at::einsum("njc,dc->njd", {q.to(at::kDouble), k.squeeze(1).to(at::kDouble)}))})
          .squeeze(1);  // [n, n]
  const auto seen = seen_rows(pass);
  for (const int64_t top : {1, 9, 40}) {
    EXPECT_TRUE(leaves_keys_out(pass, top));
    const auto chosen = choose_keys(q, k, w, top, 0, pass);
    for (int64_t row = 0; row < n; ++row) {
      auto expected = seen[static_cast<size_t>(row)];
      const auto score = [&](int32_t key) { return scores[row][key].item<double>(); };
      std::stable_sort(expected.begin(), expected.end(),
                       [&](int32_t a, int32_t b) { return score(a) > score(b); });
      if (static_cast<int64_t>(expected.size()) > top) expected.resize(static_cast<size_t>(top));
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(chosen_for(*chosen, static_cast<size_t>(row)), expected) << "row " << row << " of " << top;
    }
  }
  EXPECT_FALSE(leaves_keys_out(pass, 63));
}

TEST(ChooseKeys, TheEarlierOfEqualKeysAndNoNumberLast) {
  Forest forest;
  forest.add_segment(std::vector<int32_t>(6, 1));
  const auto pass = make_pass(forest, at::kFloat);
  auto k = at::ones({6, 1, 2});
  k[1].fill_(std::numeric_limits<float>::quiet_NaN());
  k[4].fill_(2);
  const auto chosen = choose_keys(at::ones({6, 1, 2}), k, at::ones({6, 1}), 3, 0, pass);
  EXPECT_EQ(chosen_for(*chosen, 3), (std::vector<int32_t>{0, 2, 3}));  // not 1
  EXPECT_EQ(chosen_for(*chosen, 5), (std::vector<int32_t>{0, 2, 4}));  // 4 first, then the earliest
  const auto negative = choose_keys(at::ones({6, 1, 2}), k.clamp_max(1), -at::ones({6, 1}), 2, 0, pass);
  EXPECT_EQ(chosen_for(*negative, 5), (std::vector<int32_t>{0, 2}));
}

TEST(ChooseKeys, ACacheGivesTheSameChoice) {
  Forest forest;
  forest.add_segment(std::vector<int32_t>(40, 1));
  auto pass = make_pass(forest, at::kFloat);
  const auto q = random({40, 3, 8}, 1), k = random({40, 1, 8}, 2), w = random({40, 3}, 3);
  const auto plain = choose_keys(q, k, w, 7, 1, pass);
  auto cache = larger_cache({}, 0, 50, {{2, 1, 4, 0, 8}, KvType::f32, at::kFloat});
  pass.cache = &cache;
  for (int32_t i = 0; i < 40; ++i) pass.cache_rows.push_back(10 + i);
  pass.blocks = {{0, 40, {{10, 50}}}};
  store_index_keys(k, 1, pass);
  const auto cached = choose_keys(q, k, w, 7, 1, pass);
  ASSERT_EQ(cached->first, plain->first);
  for (size_t i = 0; i < plain->rows.size(); ++i) EXPECT_EQ(cached->rows[i], plain->rows[i] + 10);
}

Tensor composed(const Tensor& q, const Tensor& k, const Tensor& v, const ChosenKeys& chosen, double scale) {
  const auto group = q.size(1) / k.size(1);
  std::vector<Tensor> rows;
  for (int64_t row = 0; row < q.size(0); ++row) {
    const auto list = chosen_for(chosen, static_cast<size_t>(row));
    const auto index =
        at::tensor(std::vector<int64_t>(list.begin(), list.end()), at::TensorOptions(at::kLong));
    const auto keys = k.index_select(0, index).repeat_interleave(group, 1),
               values = v.index_select(0, index).repeat_interleave(group, 1);  // [n,H,*]
    const auto p = (at::einsum("hd,nhd->hn", {q[row], keys}) * scale).softmax(1);
    rows.push_back(at::einsum("hn,nhd->hd", {p, values}).reshape({-1}));
  }
  return at::stack(rows);
}

// Values of their own or the front of the keys; odd numbers of heads, of chosen keys; one thread and two.
TEST(AttendChosen, ValueAndGradientsEqualTheDefinition) {
  const auto pass = make_pass(branched(), at::kFloat);
  const auto n = pass.size();
  for (const bool front : {false, true})
    for (const int threads : {1, 2})
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        const auto near = type == at::kFloat ? 1e-5 : 3e-2;
        const int64_t heads = 6, shared = front ? 1 : 2;
        const auto leaf = [&](std::initializer_list<int64_t> sizes, uint64_t seed) {
          return random(sizes, seed).to(type).to(at::kFloat);
        };
        const auto q = leaf({n, heads, 10}, 1), k = leaf({n, shared, 10}, 2), v = leaf({n, shared, 6}, 3),
                   weights = leaf({n, heads * 6}, 4);
        const auto chosen =
            choose_keys(random({n, 2, 4}, 5), random({n, 1, 4}, 6), random({n, 2}, 7), 9, 0, pass);
        const auto run = [&](at::ScalarType as, auto&& attention) {
          std::vector<Tensor> leaves;
          for (const auto& each : {q, k, v}) leaves.push_back(each.detach().clone().to(as).requires_grad_());
          const auto out = attention(leaves[0], leaves[1], leaves[2]);
          auto gradients =
              torch::autograd::grad({(out * weights.to(as)).sum()}, leaves, {}, std::nullopt, false,
                                    /*allow_unused=*/true);
          gradients.push_back(out.detach());
          return gradients;
        };
        at::set_num_threads(1);
        const auto expected = run(at::kDouble, [&](const Tensor& a, const Tensor& b, const Tensor& c) {
          return composed(a, b, front ? b.narrow(2, 0, 6) : c, *chosen, 0.3);
        });
        at::set_num_threads(threads);
        const auto found = run(type, [&](const Tensor& a, const Tensor& b, const Tensor& c) {
          return attend_chosen(a, b, front ? Tensor() : c, 6, chosen, {.scale = 0.3}, pass);
        });
        for (const size_t i : {0, 1, 2, 3}) {
          if (i == 2 && front) continue;
          EXPECT_LT(distance(found[i], expected[i]), near) << i << front << threads;
        }
      }
  at::set_num_threads(2);
}

// All keys that a query sees: attend()'s numbers.
TEST(AttendChosen, OfAllKeysIsDenseAttention) {
  const auto pass = make_pass(branched(), at::kFloat);
  const auto n = pass.size();
  const auto q = random({n, 4, 8}, 1), k = random({n, 1, 8}, 2);
  const auto all = choose_keys(random({n, 1, 2}, 5), random({n, 1, 2}, 6), random({n, 1}, 7), 1000, 0, pass);
  EXPECT_LT(distance(attend_chosen(q, k, {}, 6, all, {}, pass), attend(q, k, k.narrow(2, 0, 6), {}, pass)),
            1e-6);
}

}  // namespace
}  // namespace retort
