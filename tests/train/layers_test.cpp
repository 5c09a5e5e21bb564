// Training layer-major: the sums, the weights and the held-out loss of a model whose layers stay in its file
// are those of the same model in memory, to the bit.
#include <fmt/ranges.h>

#include <numeric>
#include <set>

#include "base/error.h"
#include "base/profile.h"
#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/composed.h"
#include "schedule/counted_stream.h"  // tests/schedule
#include "train/step.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

// Room for one or two matrices of a tiny model, and for the states of a few texts: several groups.
ModelSpec small_room(const std::string& memory = "24KiB", const std::string& scratch = "") {
  ModelSpec spec;
  spec.schedule = "layers";
  spec.memory = memory;
  spec.scratch = scratch;
  return spec;
}

// Room for all matrices; activations in a scratch folder.
ModelSpec keeping(const std::string& scratch) {
  auto spec = small_room("1MiB", scratch);
  spec.scratch_holds = "activations";
  return spec;
}

AdapterSpec wide(const std::string& kind, double dropout) {
  AdapterSpec spec = lora();
  spec.kind = kind;
  spec.targets = {"all"};
  spec.dropout = dropout;
  return spec;
}

MakePass pass_in(at::ScalarType compute) {
  return [compute](const Forest& forest, int64_t index) {
    auto pass = make_pass(forest, compute);
    pass.training = true;
    pass.dropout_key = static_cast<uint64_t>(100 + index);
    pass.embedding_noise = 2;
    return pass;
  };
}

StepSums sums_of(const TinyRun& run, const StepPlan& plan, at::ScalarType compute, int64_t threads) {
  std::vector<Tensor> leaves;
  for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
  StepSums sums;
  EXPECT_TRUE(add_gradients({*run.loaded.model, next_token_objective(), plan, pass_in(compute), threads},
                            leaves, sums));
  return sums;
}

void expect_equal(const TinyRun& run, const StepSums& one, const StepSums& other, const std::string& where) {
  EXPECT_EQ(one.nats, other.nats) << where;
  EXPECT_EQ(one.weight, other.weight) << where;
  EXPECT_EQ(one.forests, other.forests) << where;
  ASSERT_EQ(one.gradients.size(), other.gradients.size()) << where;
  int64_t there = 0;
  for (size_t i = 0; i < one.gradients.size(); ++i) {
    ASSERT_EQ(one.gradients[i].defined(), other.gradients[i].defined()) << where << " " << run.leaves[i].name;
    if (!one.gradients[i].defined()) continue;
    ++there;
    EXPECT_TRUE(at::equal(one.gradients[i], other.gradients[i])) << where << " " << run.leaves[i].name;
  }
  EXPECT_GT(there, 0) << where;
}

// A step of a base in memory against one of the same base that `in_file` reads layer by layer, both of
// `weights`.
struct StepOfBoth {
  const char* family;
  AdapterSpec spec;
  ModelSpec in_file;
  const char* weights = "keep";
  at::ScalarType compute = at::kFloat;
  int64_t threads = 2, texts = 16, row_tokens = 40, seed = 4;
};

void expect_same_bits(StepOfBoth step) {
  ModelSpec held;
  held.weights = step.in_file.weights = step.weights;
  TinyRun resident(step.spec, step.family, held), streamed(step.spec, step.family, step.in_file);
  move_b(resident), move_b(streamed);
  const auto samples = made_up_samples(step.texts, step.seed);
  const auto plan = plan_step(samples, first(step.texts), step.row_tokens, step.threads);
  expect_equal(resident, sums_of(resident, plan, step.compute, step.threads),
               sums_of(streamed, plan, step.compute, step.threads),
               fmt::format("{} {} {} {} {} threads", step.family, step.spec.kind,
                           fmt::join(step.spec.targets, ","), step.weights, step.threads));
}

}  // namespace

TEST(LayerMajor, StepsGiveTheBitsOfTokenMajor) {
  for (const auto* family : {"llama",
                             "llama_bias",
                             "gemma2",
                             "gemma3",
                             "qwen3",
                             "olmo2",
                             "phi3",
                             "smollm3",
                             "granite",
                             "mixtral",
                             "qwen3_moe",
                             "deepseek_v3",
                             "deepseek_v3_plain",
                             "deepseek_v32",
                             "deepseek_v32_sparse",
                             "deepseek_v2",
                             "deepseek_v2_groups",
                             "glm4_moe_lite",
                             "kimi_k2",
                             "mistral4",
                             "mistral4_groups"})
    for (const auto compute : {at::kFloat, at::kBFloat16}) {
      const auto spec = wide("lora", 0.1);
      TinyRun resident(spec, family), streamed(spec, family, small_room());
      ASSERT_EQ(resident.loaded.model->stream(), nullptr);
      ASSERT_NE(streamed.loaded.model->stream(), nullptr);
      move_b(resident), move_b(streamed);
      const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 2);
      ASSERT_GT(plan.forests.size(), 4u);
      expect_equal(resident, sums_of(resident, plan, compute, 2), sums_of(streamed, plan, compute, 2),
                   fmt::format("{} {}", family, compute == at::kFloat ? "f32" : "bf16"));
    }
}

TEST(LayerMajor, StepsOfOtherAdaptersThreadsAndRoomsGiveTheSameBits) {
  const auto with = [](AdapterSpec spec, std::vector<std::string> saved) {
    spec.modules_to_save = std::move(saved);
    return spec;
  };
  auto attention = lora();
  attention.targets = {"q_proj", "o_proj"};
  auto experts = lora();
  experts.targets = {"down_proj"};
  auto dora = wide("dora", 0);
  dora.targets = {"q_proj", "k_proj", "v_proj", "o_proj"};
  const TemporaryFolder scratch;
  for (const auto* family : {"llama", "qwen3_moe"})
    for (const auto& spec : {attention, experts, dora, with(attention, {"embed_tokens", "lm_head"}),
                             with(attention, {"lm_head"}), with(experts, {"gate", "model.norm"}),
                             with(wide("lora", 0), {"input_layernorm"})}) {
      if (family == std::string("llama") && !spec.modules_to_save.empty() &&
          spec.modules_to_save[0] == "gate")
        continue;
      for (const auto& [threads, memory] :
           {std::pair(1, "1MiB"), std::pair(2, "1B"), std::pair(3, "64KiB")}) {
        TinyRun resident(spec, family), streamed(spec, family, small_room(memory));
        move_b(resident), move_b(streamed);
        const auto plan = plan_step(made_up_samples(24, 4), first(24), 60, threads);
        expect_equal(resident, sums_of(resident, plan, at::kFloat, threads),
                     sums_of(streamed, plan, at::kFloat, threads),
                     fmt::format("{} {} {} threads {}", family, fmt::join(spec.modules_to_save, ","), threads,
                                 memory));
        TinyRun waiting(spec, family, small_room(memory, scratch / "states"));  // all texts in one group
        move_b(waiting);
        expect_equal(resident, sums_of(resident, plan, at::kFloat, threads),
                     sums_of(waiting, plan, at::kFloat, threads),
                     fmt::format("{} {} in a scratch folder", family, fmt::join(spec.modules_to_save, ",")));
      }
    }
}

// Experts without adapters get the tokens of several texts in one product, forward and backward.
TEST(LayerMajor, FrozenExpertsThatSeveralTextsShareGiveTheSameBits) {
  auto attention = lora();
  attention.dropout = 0.1;
  for (const auto* family : {"mixtral", "deepseek_v3", "deepseek_v32_sparse"})
    for (const auto* weights : {"keep", "q8_0"})
      for (const auto compute : {at::kFloat, at::kBFloat16})
        for (const int64_t threads : {2, 5})
          expect_same_bits({family, attention, small_room("1MiB"), weights, compute, threads, 32, 120, 6});
}

namespace {

// The arithmetic of linear layers' forward products of a step.
double forward_flop(const TinyRun& run, const StepPlan& plan, const MakePass& make) {
  std::vector<Tensor> leaves;
  for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
  StepSums sums;
  start_profile(0);
  EXPECT_TRUE(add_gradients({*run.loaded.model, next_token_objective(), plan, make, 2}, leaves, sums));
  double flop = 0;
  for (const auto& total : stop_profile().totals)
    if (total.name == "linear" && total.kind == "forward") flop += total.flop;
  return flop;
}

}  // namespace

// What leaves a layer is known when it is computed again: the product that it ends with is left out.
TEST(LayerMajor, ALayerThatIsComputedAgainLeavesItsLastProductOut) {
  const auto spec = wide("lora", 0.1);
  TinyRun resident(spec, "llama"), streamed(spec, "llama", small_room());
  const auto& model = *resident.loaded.model;
  const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 2);
  const auto make = pass_in(at::kFloat);
  const auto again = [&](const Forest& forest, int64_t index) {
    auto pass = make(forest, index);
    pass.recompute = true;
    return pass;
  };
  const auto last = model.config.layers - 1;
  const bool counts_ranks = !composed(at::zeros({1}));  // the composed form adds them by LibTorch's calls
  double down = 0, last_layer = 0, last_down = 0;       // what one pass over the step's forests multiplies
  for (size_t i = 0; i < plan.forests.size(); ++i) {
    auto pass = make(plan.forests[i], static_cast<int64_t>(i));
    next_token_objective().ask(plan.forests[i], pass);
    for (const auto* linear : model.linears()) {
      const bool narrow = pass.rows.defined() && linear->place.layer == last &&
                          !std::set{Role::q, Role::k, Role::v}.contains(linear->place.role);
      const auto rows = static_cast<double>(narrow ? pass.rows.size(0) : pass.size());
      const auto in = static_cast<double>(linear->weight.columns),
                 out = static_cast<double>(linear->weight.rows),
                 rank = counts_ranks ? static_cast<double>(linear->adapter->a.size(0)) : 0;
      const auto product = 2 * rows * (in * out + rank * out), whole = product + 2 * rows * rank * in;
      if (linear->place.role == Role::down) down += product;
      if (linear->place.layer == last) last_layer += whole;
      if (linear->place.layer == last && linear->place.role == Role::down) last_down += product;
    }
  }
  const auto once = forward_flop(resident, plan, make);
  EXPECT_GT(down, once / 10);
  EXPECT_DOUBLE_EQ(forward_flop(streamed, plan, make), 2 * once - down);
  EXPECT_DOUBLE_EQ(forward_flop(resident, plan, again), 2 * once - last_layer - (down - last_down));
}

// With activations in the scratch folder nothing is computed twice, and each matrix is read as often as it is
// without: what a graph keeps of a layer is not its matrices.
TEST(LayerMajor, WhatIsKeptInTheScratchFolderIsNotComputedAgain) {
  const TemporaryFolder scratch;
  const auto spec = wide("lora", 0.1);
  const auto make = pass_in(at::kFloat);
  const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 2);
  TinyRun resident(spec, "llama"), kept(spec, "llama", keeping(scratch / "kept"));
  EXPECT_DOUBLE_EQ(forward_flop(kept, plan, make), forward_flop(resident, plan, make));
  const auto counted = count_reads(*kept.loaded.model, *resident.loaded.model);
  sums_of(kept, plan, at::kFloat, 2);
  const auto reads = counted->take();
  const auto last = resident.loaded.model->config.layers - 1;
  EXPECT_EQ(reads.size(), resident.loaded.model->linears().size());
  for (const auto& [place, count] : reads) {
    EXPECT_LE(count, place.layer == last ? 1 : 2) << place.layer;
    if (place.role == Role::down) { EXPECT_EQ(count, place.layer == last ? 1 : 2) << place.layer; }
  }
}

TEST(LayerMajor, WhatIsKeptInTheScratchFolderGivesTheSameBits) {
  const TemporaryFolder scratch;
  auto norms = wide("lora", 0);
  norms.modules_to_save = {"input_layernorm"};
  auto outside = lora();
  outside.targets = {"embed_tokens", "lm_head", "o_proj"};
  auto middle = lora();  // nothing is learned in front of the second layer
  middle.targets = {"model.layers.1.mlp.up_proj"};
  struct Case {
    const char* family;
    AdapterSpec spec;
    const char* weights = "keep";
  };
  std::vector<Case> cases;
  for (const auto* family : {"llama", "gemma3", "olmo2", "phi3", "granite", "qwen3_moe", "deepseek_v32",
                             "deepseek_v32_sparse", "glm4_moe_lite"})
    cases.push_back({family, wide("lora", 0.1)});
  for (const auto& spec : {wide("lora", 0), wide("dora", 0), norms, outside, middle})
    for (const auto* weights : {"keep", "q8_0"}) cases.push_back({"llama", spec, weights});
  for (const auto& [family, spec, weights] : cases)
    for (const auto compute : {at::kFloat, at::kBFloat16})
      for (const int64_t threads : {1, 2})
        expect_same_bits({family, spec, keeping(scratch / "kept"), weights, compute, threads});
}

// What is learned in front of the layers and behind them: of two matrices, and of one.
TEST(LayerMajor, AdaptersAndRowsOfEmbeddingAndHeadGetTheSameBits) {
  auto outside = lora();
  outside.targets = {"embed_tokens", "lm_head", "o_proj"};
  outside.dropout = 0.1;
  auto embedding = lora();
  embedding.targets = {"embed_tokens"};
  auto rows = lora();
  rows.trainable_tokens = {"7", "30", "41", "90"};
  rows.trainable_tokens_head = true;
  for (const auto* family : {"llama", "gemma3", "qwen3_moe"})
    for (const auto& spec : {outside, embedding, rows}) {
      TinyRun resident(spec, family), streamed(spec, family, small_room());
      move_b(resident), move_b(streamed);
      const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 2);
      for (const auto compute : {at::kFloat, at::kBFloat16})
        expect_equal(resident, sums_of(resident, plan, compute, 2), sums_of(streamed, plan, compute, 2),
                     fmt::format("{} {} {}", family, spec.targets[0], spec.trainable_tokens.size()));
    }
}

TEST(LayerMajor, AWholeTrainingEndsWithTheSameBytes) {
  for (const auto* family : {"llama", "qwen3_moe", "deepseek_v32", "deepseek_v32_sparse"}) {
    const TemporaryFolder folder;
    TrainSpec spec;
    spec.steps = 4;
    spec.threads = 2;
    spec.evaluate.every = 2;
    spec.batch.samples = 6;
    spec.batch.pass_tokens = 40;
    TinyRun resident(wide("lora", 0.1), family), streamed(wide("lora", 0.1), family, small_room());
    const auto one = train(spec, resident.job(folder / "tokens"));
    const auto other = train(spec, streamed.job(folder / "layers"));
    EXPECT_EQ(resident.bytes(), streamed.bytes()) << family;
    EXPECT_EQ(one.held_out_after, other.held_out_after) << family;
    EXPECT_EQ(one.last_loss, other.last_loss) << family;
  }
}

TEST(LayerMajor, AStopLeavesNothingOfTheStep) {
  TinyRun streamed(wide("lora", 0), "llama", small_room());
  const auto plan = plan_step(made_up_samples(24, 4), first(24), 30, 2);
  std::vector<Tensor> leaves;
  for (const auto& leaf : streamed.leaves) leaves.push_back(*leaf.tensor);
  request_stop();
  StepSums sums;
  EXPECT_FALSE(add_gradients({*streamed.loaded.model, next_token_objective(), plan, pass_in(at::kFloat), 2},
                             leaves, sums));
  forget_stop();
  EXPECT_EQ(sums.forests, 0);
  EXPECT_TRUE(sums.gradients.empty());
}

TEST(LayerMajor, ALossThatRunsTheModelItselfIsRefusedByName) {
  TinyRun streamed(wide("lora", 0), "llama", small_room());
  const auto plan = plan_step(made_up_samples(4, 4), first(4), 30, 1);
  std::vector<Tensor> leaves;
  for (const auto& leaf : streamed.leaves) leaves.push_back(*leaf.tensor);
  const Objective whole = [](const Model& model, const Forest& forest, const Pass& pass) {
    return next_token_objective()(model, forest, pass);
  };
  StepSums sums;
  EXPECT_THROW(add_gradients({*streamed.loaded.model, whole, plan, pass_in(at::kFloat), 1}, leaves, sums),
               RecipeError);
}

}  // namespace retort
