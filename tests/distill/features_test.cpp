// Feature losses against LibTorch composed by hand, one sample at a time, so that nothing of the forest is
// shared.
#include "distill/features.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "distill/objective.h"
#include "models/golden_llama.h"  // tests/models
#include "ops/attend.h"

namespace retort {
namespace {

std::shared_ptr<Model> tiny(uint64_t seed) {
  std::shared_ptr<Model> model = golden_llama().model;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (auto* linear : model->linears()) linear->weight = dense_weight(noisy(linear->weight, generator, 0.5));
  return model;
}

class FeatureLoss : public testing::Test {
 protected:
  FeatureLoss() {
    const Draws draws(3, "features");
    for (uint64_t s = 0; s < 5; ++s) {
      Sample sample;
      for (uint64_t i = 0; i < 11 + s; ++i) {
        sample.tokens.push_back(
            static_cast<int32_t>(3 + draws.below(i < 6 ? i : s * 100 + i, 90)));  // six tokens are shared
        sample.weights.push_back(i < 4 ? 0 : i % 3 == 0 ? 0.5f : 1);
      }
      samples.push_back(sample);
    }
    forest = build_forests(samples, 1000)[0];
    for (auto* linear : student->linears()) linear->weight.dense.requires_grad_();
  }
  struct Side {
    Tensor hidden, q, k;
  };
  // What a sample alone gives at a layer.
  Side alone(const Model& model, const Sample& sample, int64_t layer) {
    const auto forest_of_one = build_forests({sample}, 1000)[0];
    auto pass = make_pass(forest_of_one, at::kFloat);
    Side side;
    pass.before_attend = [&](const AttendRule& rule, const Tensor& q, const Tensor& k) {
      if (rule.layer == layer) side.q = q, side.k = k;
    };
    auto x = model.embed(pass);
    for (int64_t i = 0; i <= layer; ++i) x = model.layer(i, x, pass);
    side.hidden = x;
    return side;
  }
  Tensor summed(const Features& features) {
    auto pass = make_pass(forest, at::kFloat), teacher_pass = pass;
    Heard heard, theirs;
    features.listen(pass, Features::Side::student, heard);
    features.listen(teacher_pass, Features::Side::teacher, theirs);
    student->hidden(pass);
    teacher->hidden(teacher_pass);
    return features.loss(heard, theirs, supervised_rows(forest.targets), pass);
  }
  Tensor& weight_of(const std::string& name) {
    for (auto* linear : student->linears())
      if (linear->name == name) return linear->weight.dense;
    throw std::logic_error(name);
  }
  std::shared_ptr<Model> teacher = tiny(1), student = tiny(2);
  std::vector<Sample> samples;
  Forest forest;
};

double distance(const Tensor& ours, const Tensor& reference) {
  return ((ours - reference).abs().max() / reference.abs().max()).item<double>();
}

TEST_F(FeatureLoss, HiddenStatesMeetThroughALearnedProjection) {
  Features features({{.kind = "hidden", .student = 0, .teacher = 1, .weight = 0.25}}, student->config,
                    teacher->config, 7);
  auto leaves = features.leaves();
  ASSERT_EQ(leaves.size(), 1u);
  auto& p = *leaves[0].tensor;
  EXPECT_TRUE(at::equal(p.detach(), at::eye(student->config.hidden)));
  p.detach().add_(
      at::randn(p.sizes(), at::make_generator<at::CPUGeneratorImpl>(5), at::TensorOptions(at::kFloat)) * 0.1);
  auto& w = weight_of("model.layers.0.mlp.down_proj");
  const auto ours = summed(features);
  auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
  for (const auto& sample : samples) {
    const auto s = alone(*student, sample, 0).hidden, t = alone(*teacher, sample, 1).hidden.detach();
    for (size_t i = 1; i < sample.tokens.size(); ++i) {
      const auto row = static_cast<int64_t>(i) - 1;
      reference = reference + 0.25 * sample.weights[i] * (at::matmul(p, s[row]) - t[row]).pow(2).sum() /
                                  t[row].pow(2).sum();
    }
  }
  EXPECT_NEAR(ours.item<double>() / reference.item<double>(), 1, 1e-5);
  const auto gradients = torch::autograd::grad({ours}, {p, w}),
             expected = torch::autograd::grad({reference}, {p, w});
  for (size_t i = 0; i < 2; ++i) EXPECT_LT(distance(gradients[i], expected[i]), 1e-5) << i;
}

TEST_F(FeatureLoss, AttentionIsComparedOverWhatEachQuerySees) {
  const Features features({{.kind = "attention", .student = 1, .teacher = 0, .weight = 2}}, student->config,
                          teacher->config, 7);
  const auto ours = summed(features);
  auto& w = weight_of("model.layers.1.self_attn.k_proj");
  // Mean over heads of softmax(q k / sqrt D), query by query.
  const auto attention = [&](const Side& side, int64_t row) {
    const auto heads = side.q.size(1), group = heads / side.k.size(1);
    std::vector<Tensor> all;
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<Tensor> scores;
      for (int64_t key = 0; key <= row; ++key)
        scores.push_back((side.q[row][h] * side.k[key][h / group]).sum() /
                         std::sqrt(static_cast<double>(side.q.size(2))));
      all.push_back(at::stack(scores).softmax(0));
    }
    return at::stack(all).mean(0);
  };
  auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
  for (const auto& sample : samples) {
    const auto s = alone(*student, sample, 1), t = alone(*teacher, sample, 0);
    for (size_t i = 1; i < sample.tokens.size(); ++i) {
      if (sample.weights[i] == 0) continue;
      const auto p = attention(t, static_cast<int64_t>(i) - 1).detach(),
                 q = attention(s, static_cast<int64_t>(i) - 1);
      reference = reference + 2.0 * sample.weights[i] * (p * (p.log() - q.log())).sum();
    }
  }
  EXPECT_NEAR(ours.item<double>() / reference.item<double>(), 1, 1e-4);
  EXPECT_GT(reference.item<double>(), 0.01);
  EXPECT_LT(distance(torch::autograd::grad({ours}, {w})[0], torch::autograd::grad({reference}, {w})[0]),
            1e-4);
}

// The teacher's own features cost nothing, and the objective adds the features to its divergence.
TEST_F(FeatureLoss, IsAddedToTheLiveObjective) {
  const std::vector<FeatureSpec> specs = {{.kind = "hidden", .student = 1, .teacher = 1, .weight = 3},
                                          {.kind = "attention", .student = 1, .teacher = 1}};
  const auto features = std::make_shared<Features>(specs, student->config, teacher->config, 7);
  const auto vocabulary = teacher->head.linear.weight.rows;
  auto pass = make_pass(forest, at::kFloat);
  pass.training = true;
  const DistillSpec spec{.weight = 0.5};
  const double plain =
      live_distillation(spec, {teacher, at::kFloat, vocabulary})(*student, forest, pass).nats.item<double>();
  const double with =
      live_distillation(spec, {teacher, at::kFloat, vocabulary, features})(*student, forest, pass)
          .nats.item<double>();
  EXPECT_NEAR(with - plain, summed(*features).item<double>(), 1e-3 * std::abs(with));
  EXPECT_GT(with - plain, 0.1);
  const auto own =
      live_distillation(spec, {teacher, at::kFloat, vocabulary, features})(*teacher, forest, pass)
          .nats.item<double>();
  EXPECT_NEAR(
      own,
      live_distillation(spec, {teacher, at::kFloat, vocabulary})(*teacher, forest, pass).nats.item<double>(),
      1e-4);
}

TEST_F(FeatureLoss, LayersThatAreNotThereAreRefused) {
  try {
    Features({{.kind = "hidden", .student = 0, .teacher = 9}}, student->config, teacher->config, 7);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("distill.features[0].teacher: layer 9 is asked for; the teacher has 2"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
