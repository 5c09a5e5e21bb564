// Losses against a teacher on a device that LibTorch takes for another (tests/ops/pretend_device.h).
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/random.h"
#include "data/temporary_folder.h"  // tests/data
#include "distill/objective.h"
#include "distill/uld.h"
#include "models/golden_llama.h"  // tests/models
#include "ops/composed.h"
#include "ops/pretend_device.h"  // tests/ops
#include "ops/tensors.h"         // tests/ops
#include "teacher/teach.h"

namespace retort {
namespace {

std::shared_ptr<Model> variant(uint64_t seed, at::Device device) {
  std::shared_ptr<Model> model = golden_llama(seed).model;
  model->head.linear.weight.dense.set_requires_grad(true);
  model->compute_on(device);
  return model;
}

std::vector<Sample> some_samples() {
  const Draws draws(1, "samples");
  std::vector<Sample> samples(9);
  for (size_t s = 0; s < samples.size(); ++s)
    for (uint64_t i = 0; i < 12 + s; ++i) {
      samples[s].tokens.push_back(static_cast<int32_t>(3 + draws.below(i < 5 ? i : s * 1000 + i, 90)));
      samples[s].weights.push_back(i < 6 ? 0 : 1);
    }
  return samples;
}

// What `objective` gives of a student on `device`: nats, and the gradient of its head.
std::pair<double, Tensor> taught(const Objective& objective, const Forest& forest, at::Device device) {
  const auto student = variant(2, device);
  auto pass = make_pass(forest, at::kFloat, device);
  pass.training = true;
  const auto loss = objective(*student, forest, pass);
  return {loss.nats.item<double>(),
          torch::autograd::grad({loss.nats}, {student->head.linear.weight.dense})[0]};
}

TEST(DistillOnADevice, GivesTheLossesAndGradientsOfTheCpu) {
  const ComposedScope scope(true);
  const TemporaryFolder folder;
  const auto samples = some_samples();
  const auto forest = build_forests(samples, 10000)[0];
  const KeepSpec keep;
  const auto cache = [&](at::Device device) {
    const auto teacher = variant(1, device);
    const auto vocabulary = teacher->head.linear.weight.rows;
    const auto made_from = cache_provenance({"w", "t", "c", "f32", 1}, samples, keep);
    const auto path = folder / device.str();
    teach({*teacher, at::kFloat, vocabulary, 1, samples, path, made_from, keep, 64, 1});
    return std::make_shared<TeacherCache>(path, made_from, plan_cache(samples, keep.part_positions), keep,
                                          vocabulary);
  };
  std::vector<std::pair<std::string, std::function<Objective(at::Device)>>> objectives;
  for (const auto* loss : {"forward_kl", "jensen_shannon"})
    objectives.emplace_back(std::string("live ") + loss, [loss](at::Device device) {
      const auto teacher = variant(1, device);
      LiveTeacher live{teacher, at::kFloat, teacher->head.linear.weight.rows};
      live.features = std::make_shared<Features>(
          std::vector<FeatureSpec>{{.kind = "hidden", .student = 1, .teacher = 0},
                                   {.kind = "attention", .student = 1, .teacher = 1}},
          teacher->config, teacher->config, 1);
      return live_distillation({.loss = loss, .temperature = 2, .weight = 0.7}, live);
    });
  for (const double temperature : {1.0, 2.0})
    objectives.emplace_back("cached", [&cache, temperature](at::Device device) {
      return cached_distillation({.temperature = temperature, .weight = 0.7}, cache(device));
    });
  for (const auto& [name, objective] : objectives) {
    SCOPED_TRACE(name);
    const auto [here, gradient] = taught(objective(at::kCPU), forest, at::kCPU);
    const auto before = pretend::operations.load();
    const auto [there, other] = taught(objective(pretend::kDevice), forest, pretend::kDevice);
    EXPECT_GT(pretend::operations, before);
    EXPECT_NEAR(there / here, 1, 1e-5);
    EXPECT_TRUE(other.is_cpu());
    EXPECT_LT(distance(other, gradient.to(at::kDouble)), 1e-5);
  }
}

}  // namespace
}  // namespace retort
