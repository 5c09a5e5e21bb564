// Training on a device that LibTorch takes for another (tests/ops/pretend_device.h): weights, optimizer and
// checkpoints stay in the CPU's memory, passes run there.
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "models/mtp_folder.h"  // tests/models
#include "ops/composed.h"
#include "ops/device_copies.h"
#include "ops/pretend_device.h"  // tests/ops
#include "report/metrics.h"
#include "train/fingerprint.h"
#include "train/step.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

struct Trained {
  std::vector<double> losses;
  std::string bytes;
};

Trained trained_on(at::Device device, const AdapterSpec& adapter, const std::string& family,
                   const std::function<void(TrainSpec&)>& change = {}) {
  const ComposedScope scope(true);
  const TemporaryFolder folder;
  TinyRun run(adapter, family);
  run.loaded.model->compute_on(device);
  auto spec = tiny_spec();
  spec.steps = 5, spec.threads = 1, spec.evaluate.every = 5;
  if (change) change(spec);
  const auto before = pretend::operations.load();
  const auto result = train(spec, run.job(folder / "run"));
  EXPECT_EQ(pretend::operations > before, !device.is_cpu());
  EXPECT_EQ(result.skipped, 0);
  Trained trained{{result.last_loss, result.held_out_before.value(), result.held_out_after.value()},
                  run.bytes()};
  for (const auto& [step, scalars] : read_metrics(std::filesystem::path(folder / "run") / "metrics.jsonl"))
    trained.losses.push_back(scalars.at(0).second);
  return trained;
}

AdapterSpec full() {
  AdapterSpec spec;
  spec.kind = "full";
  return spec;
}

}  // namespace

TEST(TrainOnADevice, GivesTheLossesOfTheCpuAndTheSameBytesTwice) {
  auto dora = lora(4, 0.1);
  dora.kind = "dora";
  struct Case {
    AdapterSpec adapter;
    std::string family;
    bool recompute = false;
  };
  for (const auto& [adapter, family, recompute] : {Case{lora(4, 0.1), "llama"},
                                                   {dora, "qwen3", true},
                                                   {full(), "gemma2"},
                                                   {full(), "qwen3_moe"},
                                                   {full(), "llama_bias"},
                                                   {lora(), "deepseek_v32_sparse"},
                                                   {lora(), "deepseek_v2_groups"},
                                                   {lora(4, 0.1), "mistral4"}}) {
    SCOPED_TRACE(family + ", " + adapter.kind);
    const auto change = [again = recompute](TrainSpec& spec) {
      spec.recompute = again;
      spec.neftune_alpha = 2;
    };
    const auto here = trained_on(at::kCPU, adapter, family, change),
               there = trained_on(pretend::kDevice, adapter, family, change);
    ASSERT_EQ(there.losses.size(), here.losses.size());
    for (size_t i = 0; i < here.losses.size(); ++i)
      EXPECT_NEAR(there.losses[i] / here.losses[i], 1, 1e-4) << "loss " << i;
    EXPECT_EQ(trained_on(pretend::kDevice, adapter, family, change).bytes, there.bytes);
  }
}

// A device has one forest at a time, so that threads change neither forests nor their order.
TEST(TrainOnADevice, ThreadsWorkInsideOneForest) {
  const auto losses = [](int64_t threads) {
    return trained_on(pretend::kDevice, lora(), "llama", [=](TrainSpec& spec) { spec.threads = threads; })
        .losses;
  };
  const auto one = losses(1), three = losses(3);
  ASSERT_EQ(one.size(), three.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(three[i] / one[i], 1, 1e-4) << "loss " << i;
}

// Of a step only what is trained travels, once for all forests, and what the samples say.
TEST(TrainOnADevice, ASecondStepCopiesNoFrozenMatrix) {
  const auto held = device_room().held;
  {
    const TinyRun run(lora(), "qwen3_moe");
    auto& model = *run.loaded.model;
    model.compute_on(pretend::kDevice);
    std::vector<Tensor> leaves;
    uint64_t trained = 0;
    for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor), trained += leaf.tensor->nbytes();
    const std::vector<int64_t> all{0, 1, 2, 3, 4, 5};
    const auto plan = plan_step(made_up_samples(6, 1), all, 40, 1);
    ASSERT_GE(plan.forests.size(), 2u);
    const auto pass_of = [&](const Forest& forest, int64_t) {
      return make_pass(forest, at::kFloat, model.device());
    };
    const auto step = [&] {
      StepSums sums;
      const auto before = pretend::numbers_copied.load();
      add_gradients({model, next_token_objective(), plan, pass_of, 1}, leaves, sums);
      return pretend::numbers_copied - before;
    };
    const auto first = step();
    const auto of_weights = device_room().held - held;
    uint64_t frozen = 0;
    for (const auto* linear : model.linears()) frozen += linear->weight.stored_bytes();
    EXPECT_GT(of_weights, frozen / 2);  // not every expert has tokens
    EXPECT_GE(first, static_cast<int64_t>(of_weights));
    step();  // the embedding stays from the second pass on
    // Weights of the targets are a float each.
    const auto of_step = static_cast<int64_t>(trained) + 4 * plan.supervised;
    const auto again = step();
    EXPECT_LE(again, of_step);
    EXPECT_GT(again, of_step / 2);
  }
  EXPECT_EQ(device_room().held, held);  // the model is gone
}

TEST(TrainOnADevice, TheLayerBehindTheLastSaysTheSameThere) {
  const ComposedScope scope(true);
  const TemporaryFolder folder;
  const auto loaded = load_weights({.path = mtp_folder(folder / "mtp", "deepseek_v3"), .mtp = true});
  auto& model = *loaded.model;
  const at::NoGradGuard no_graph;
  const std::vector<int64_t> all{0, 1, 2, 3, 4, 5};
  const auto plan = plan_step(made_up_samples(6, 1), all, 60, 1);
  const auto nats = [&](const Forest& forest) {
    return two_token_objective(0.5)(model, forest, make_pass(forest, at::kFloat, model.device()))
        .nats.cpu()
        .item<double>();
  };
  for (const auto& forest : plan.forests) {
    model.compute_on(at::kCPU);
    const auto here = nats(forest);
    model.compute_on(pretend::kDevice);
    EXPECT_NEAR(nats(forest) / here, 1, 1e-4);
  }
}

TEST(TrainOnADevice, TheDeviceIsPartOfWhatARunWasMadeWith) {
  const TemporaryFolder folder;
  TinyRun run;
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& [name, value] : full_fingerprint(tiny_spec(), run.job(folder / "run"), 1))
      all.push_back(name);
    return all;
  };
  const auto of_cpu = names();
  EXPECT_EQ(std::count(of_cpu.begin(), of_cpu.end(), "device"), 0);  // runs of before the choice go on
  auto spec = tiny_spec();
  spec.steps = 1;
  train(spec, run.job(folder / "run"));
  run.loaded.model->compute_on(pretend::kDevice);
  const auto of_device = names();
  EXPECT_EQ(std::count(of_device.begin(), of_device.end(), "device"), 1);
  spec.steps = 2;
  std::string refused;
  try {
    train(spec, run.job(folder / "run"));
  } catch (const RecipeError& error) { refused = error.what(); }
  EXPECT_NE(refused.find("device: absent then, "), std::string::npos) << refused;
}

TEST(TrainOnADevice, AModelThatIsReadLayerByLayerIsRefused) {
  ModelSpec streamed;
  streamed.schedule = "layers", streamed.memory = "24KiB";
  const TinyRun run(lora(), "llama", streamed);
  EXPECT_THROW(run.loaded.model->compute_on(pretend::kDevice), RecipeError);
  run.loaded.model->compute_on(at::kCPU);
}

}  // namespace retort
