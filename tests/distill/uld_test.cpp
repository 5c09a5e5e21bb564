#include "distill/uld.h"
#include "where.h"  // tests

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace retort {
namespace {

Sample sample_of(std::vector<int32_t> tokens, std::vector<float> weights, std::string id) {
  return {std::move(tokens), std::move(weights), std::move(id)};
}

TEST(Uld, PairsTheNthTokenOfAnAnswerWithTheNth) {
  const auto ours = sample_of({1, 2, 3, 4, 5}, {0, 0, 1, 1, 1}, "a"),
             theirs = sample_of({9, 8, 7, 6}, {0, 0, 1, 1}, "a"),
             other = sample_of({9, 9, 9}, {0, 1, 1}, "b");
  const auto pairs = paired_in_order({ours}, {other, theirs});
  const auto here = contexts(ours.tokens), there = contexts(theirs.tokens);
  ASSERT_EQ(pairs.size(), 2u);  // the teacher's answer is shorter
  EXPECT_EQ(pairs.at(here[1]), there[1]);
  EXPECT_EQ(pairs.at(here[2]), there[2]);
}

// Sorted probabilities by LibTorch's sort, with its own backward; the teacher keeps everything, two tokens
// fewer than the student.
TEST(Contexts, TheNthSampleOfARecordMeetsTheNth) {
  const auto piece = [](const char* id) { return sample_of({1, 2}, {0, 1}, id); };
  const std::vector<std::pair<size_t, size_t>> expected = {{0, 1}, {1, 0}, {2, 2}};
  EXPECT_EQ(same_records({piece("a:1"), piece("b:2"), piece("a:1"), piece("a:1"), piece("c:3")},
                         {piece("b:2"), piece("a:1"), piece("a:1"), piece("b:2")}),
            expected);
}

TEST(Uld, EqualsSortedDistanceAndItsGradient) {
  std::shared_ptr<Model> model =
      load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string(),
                    .weights = "f32"})
          .model;
  model->head.linear.weight =
      dense_weight(widen(model->head.linear.weight, at::kFloat).clone().requires_grad_());
  const auto& w = model->head.linear.weight.dense;
  const auto vocabulary = w.size(0);
  const auto forest = build_forests({sample_of({4, 9, 17, 33, 60}, {0, 1, 1, 0.5f, 1}, "a")}, 100)[0];
  const auto here = contexts(forest);
  auto pass = make_pass(forest, at::kFloat);
  pass.training = true;
  const auto p_all =
      at::arange(vocabulary - 2, at::TensorOptions(at::kFloat)).mul(0.13).sin().mul(2).softmax(-1);
  const auto find = [&](Context context) -> std::optional<SparseRow> {
    if (context == here[0]) return std::nullopt;
    SparseRow row;
    for (int64_t i = 0; i < vocabulary - 2; ++i)
      row.ids.push_back(static_cast<int32_t>(i)), row.p.push_back(p_all[i].item<float>());
    row.head = row.ids.size();
    return row;
  };
  for (const double t : {1.0, 2.0}) {
    const auto loss =
        uld_distillation({.temperature = t, .weight = 0.75}, {find, vocabulary, false})(*model, forest, pass);
    const auto h = model->hidden(pass).detach();
    auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
    for (const auto& target : forest.targets) {
      const auto z = at::matmul(w, h[target.row]);
      const bool heard = target.row > 0;
      if (heard) {
        const auto q = std::get<0>((z / t).softmax(-1).sort(-1, true)),
                   p = at::cat({std::get<0>(p_all.sort(-1, true)), at::zeros({2})});
        reference = reference + target.weight * 0.75 * t * t * (p - q).abs().sum();
      }
      reference = reference - target.weight * (heard ? 0.25 : 1.0) * z.log_softmax(-1)[target.label];
    }
    EXPECT_NEAR(loss.nats.item<double>() / reference.item<double>(), 1, 1e-5);
    const auto ours = torch::autograd::grad({loss.nats}, {w})[0],
               expected = torch::autograd::grad({reference}, {w})[0];
    EXPECT_LT(((ours - expected).abs().max() / expected.abs().max()).item<double>(), 1e-4) << t;
  }
}

}  // namespace
}  // namespace retort
