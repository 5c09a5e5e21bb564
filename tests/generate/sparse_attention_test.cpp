// Generation where an indexer leaves tokens out: its keys are cached, and stay where they belong when texts
// leave and others enter.
#include <gtest/gtest.h>

#include "base/json.h"
#include "generate/growing_forest.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(source_dir()) / "tests/golden/models/deepseek_v32_sparse";

struct Texts {
  LoadedModel loaded = load_weights({.path = kGolden.string(), .compute = "f32"});
  std::vector<std::vector<int32_t>> all;

  // The last hidden state of a text, read at once.
  Tensor whole(size_t i) const {
    Forest forest;
    forest.add_segment(all[i]);
    return loaded.model->hidden(make_pass(forest, at::kFloat)).narrow(0, forest.size() - 1, 1);
  }
};

TEST(SparseAttention, TextsThatGrowEqualTextsReadAtOnce) {
  const at::NoGradGuard no_graph;
  Texts texts;
  const auto rows = read_json(kGolden / "golden.json")["rows"].get<std::vector<std::vector<int32_t>>>();
  auto& all = texts.all;
  for (const int32_t i : {0, 1, 2}) {  // 30 shared tokens; the last is shorter than index_topk
    all.push_back(i < 2 ? rows[2] : std::vector<int32_t>(rows[1].begin(), rows[1].begin() + 5));
    for (int32_t j = 0; j < 2 + i; ++j) all.back().push_back(10 + 3 * i + j);
  }
  GrowingForest forest(*texts.loaded.model, at::kFloat);
  auto states = forest.enter(all, 20, 7);
  const auto expect_whole = [&](std::initializer_list<int32_t> which) {
    int64_t at = 0;
    for (const auto i : which)
      EXPECT_LT(distance(states.narrow(0, at++, 1), texts.whole(static_cast<size_t>(i))), 1e-5) << i;
  };
  expect_whole({0, 1, 2});
  const auto grow = [&](std::vector<int32_t> which, int32_t steps) {
    for (int32_t step = 0; step < steps; ++step) {
      std::vector<int32_t> tokens;
      for (const auto i : which) {
        tokens.push_back(20 + 5 * i + step);
        all[static_cast<size_t>(i)].push_back(tokens.back());
      }
      states = forest.step(which, tokens);
    }
  };
  grow({0, 1, 2}, 8);  // the last passes index_topk on the way
  expect_whole({0, 1, 2});
  forest.leave(0), forest.leave(1);
  all.push_back(rows[0]);
  const auto before = forest.rows_used();
  states = forest.enter({all.back()}, 4, 512);
  EXPECT_LT(forest.rows_used(), before);  // rows moved
  expect_whole({3});
  grow({2, 3}, 4);
  expect_whole({2, 3});
}

}  // namespace
}  // namespace retort
