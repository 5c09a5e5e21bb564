#include "train/optimizer.h"

#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "formats/golden_file.h"  // tests/formats
#include "ops/tensors.h"          // tests/ops
#include "quant/dynamic8.h"
#include "train/tiny_run.h"
#include "train/update_loops.h"

namespace retort {
namespace {

OptimizerSpec spec_of(const std::string& kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  return spec;
}

Tensor row(const std::vector<float>& values) {
  return at::tensor(values).reshape({1, static_cast<int64_t>(values.size())});
}

// One trainable of one row: what its weights are after each of the gradients.
std::vector<std::vector<float>> trace(const OptimizerSpec& spec, const std::vector<float>& start,
                                      const std::vector<std::vector<float>>& gradients, double rate,
                                      const std::string& name = "w") {
  auto weights = row(start);
  Optimizer optimizer(spec, {{name, &weights}}, 1);
  std::vector<std::vector<float>> after;
  for (const auto& gradient : gradients) {
    EXPECT_TRUE(optimizer.update({row(gradient)}, 1, rate));
    after.emplace_back(weights.const_data_ptr<float>(), weights.const_data_ptr<float>() + weights.numel());
  }
  return after;
}

class AgainstTorch : public testing::TestWithParam<const char*> {};

}  // namespace

TEST_P(AgainstTorch, FourUpdatesOfAMatrixAndAVector) {
  const auto golden = open_safetensors(golden_folder("train") / "optimizers.safetensors");
  const std::string kind = GetParam();
  auto spec = spec_of(kind);
  spec.betas = {0.9, 0.95};
  spec.weight_decay = kind == "adamw" ? 0.1 : 0;  // of the matrix alone
  spec.momentum = 0.9;
  auto matrix = tensor_of(golden, "matrix"), vector = tensor_of(golden, "vector");
  Optimizer optimizer(spec, {{"matrix", &matrix}, {"vector", &vector}}, 1);
  for (int i = 0; i < 4; ++i) {
    const auto gradient = "gradient." + std::to_string(i);
    // The step's weight is 4: sums are four times the mean gradient.
    EXPECT_TRUE(optimizer.update(
        {tensor_of(golden, gradient + ".matrix") * 4, tensor_of(golden, gradient + ".vector") * 4}, 0.25,
        0.01));
    const auto after = kind + "." + std::to_string(i);
    EXPECT_LT(distance(matrix, tensor_of(golden, after + ".matrix")), 1e-6) << i;
    EXPECT_LT(distance(vector, tensor_of(golden, after + ".vector")), 1e-6) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Optimizer, AgainstTorch, testing::Values("adamw", "sgd"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Optimizer, LionMovesBySignsAsByHand) {
  auto spec = spec_of("lion");
  spec.betas = {0.5, 0.75};
  spec.weight_decay = 0.5;
  // m = 0: directions are the gradients' signs; weights shrink by 1 - 0.1 * 0.5 first. Then m = 0.25 g =
  // (0.5, -1, 0). Second: 0.5 m + 0.5 g = (0.25 - 0.5, -0.5 + 1, 0) -> signs (-, +, 0).
  const auto after = trace(spec, {1, 1, 1}, {{2, -4, 0}, {-1, 2, 0}}, 0.1);
  const double expected[2][3] = {{0.95 - 0.1, 0.95 + 0.1, 0.95},
                                 {0.85 * 0.95 + 0.1, 1.05 * 0.95 - 0.1, 0.95 * 0.95}};
  for (size_t i = 0; i < 2; ++i)
    for (size_t k = 0; k < 3; ++k) EXPECT_NEAR(after[i][k], expected[i][k], 1e-6) << i << " " << k;
}

TEST(Optimizer, SgdWithoutMomentumIsPlainAndDecaysApartFromTheGradient) {
  auto spec = spec_of("sgd");
  spec.weight_decay = 0.5;
  EXPECT_NEAR(trace(spec, {2}, {{3}}, 0.1)[0][0], 2 * 0.95 - 0.3, 1e-6);
}

TEST(Optimizer, OnlyMatricesDecay) {
  auto spec = spec_of("adamw");
  spec.weight_decay = 0.1;
  auto matrix = at::ones({2, 3}), vector = at::ones({3});
  Optimizer optimizer(spec, {{"w", &matrix}, {"norm", &vector}}, 1);
  EXPECT_TRUE(optimizer.update({at::zeros({2, 3}), at::zeros({3})}, 1, 0.5));
  EXPECT_NEAR(matrix[0][0].item<float>(), 0.95, 1e-6);
  EXPECT_EQ(vector[0].item<float>(), 1);
}

TEST(Optimizer, LoraPlusRaisesTheRateOfBAlone) {
  auto spec = spec_of("sgd");
  spec.lora_plus_ratio = 16;
  EXPECT_NEAR(trace(spec, {0}, {{1}}, 0.01, "base_model.model.q_proj.lora_A.weight")[0][0], -0.01, 1e-7);
  EXPECT_NEAR(trace(spec, {0}, {{1}}, 0.01, "base_model.model.q_proj.lora_B.weight")[0][0], -0.16, 1e-7);
}

// First steps from zero: every weight moves by the rate, whatever its gradient's size, as with fp32 moments.
TEST(Optimizer, EightBitMomentsFollowFp32Moments) {
  const int64_t count = 3 * 4096 + 77;  // whole blocks and a short one
  const Draws draws(3, "gradients");
  auto exact = at::zeros({1, count}), coded = at::zeros({1, count});
  auto spec = spec_of("adamw");
  Optimizer fp32(spec, {{"w", &exact}}, 1);
  spec.kind = "adamw8bit";
  Optimizer eight(spec, {{"w", &coded}}, 1);
  uint64_t bytes = 0;
  for (const auto& state : eight.states()) bytes += state.bytes.size();
  EXPECT_LT(bytes, static_cast<uint64_t>(count) * 21 / 10);  // 2 bytes and 8/256 a weight, not 8
  double difference = 0;
  for (int step = 0; step < 20; ++step) {
    auto gradient = at::empty({1, count});
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<uint64_t>(i);
      // A steady part and noise, over sizes from 0.01 to 1: every element keeps its own direction.
      gradient.mutable_data_ptr<float>()[i] =
          static_cast<float>(std::pow(10.0, -2 * draws.uniform(at)) *
                             (1 + 0.3 * draws.normal(at + static_cast<uint64_t>(count * (step + 1)))));
    }
    EXPECT_TRUE(fp32.update({gradient}, 1, 1e-2));
    EXPECT_TRUE(eight.update({gradient}, 1, 1e-2));
    if (step == 0) {
      EXPECT_LT((exact - coded).abs().max().item<double>(), 1e-6) << "nothing has been coded yet";
    }
    difference = ((exact - coded).norm() / exact.norm()).item<double>();
  }
  EXPECT_LT(difference, 0.05);
  EXPECT_GT(difference, 1e-6);  // or the moments were fp32
  // No weight ran away: a second moment coded as zero would divide by epsilon.
  EXPECT_LT(coded.abs().max().item<double>(), 20 * 1e-2 * 1.5);
}

TEST(Optimizer, ASecondMomentAboveZeroIsNeverCodedAsZero) {
  std::vector<float> weights(256, 0), gradients(256, 1e-6f);
  gradients[0] =
      1;  // the block's largest: the others' squares are 1e-12 of it, far below the code's finest value
  std::vector<uint8_t> first(256, dynamic8_code(Dynamic8::with_sign, 0)), second(256, 0);
  float first_absmax = 0, second_absmax = 0;
  UpdateScalars s{.share = 1,
                  .keep = 1,
                  .rate = 0.01f,
                  .beta_1 = 0.9f,
                  .beta_2 = 0.999f,
                  .rest_1 = 0.1f,
                  .rest_2 = 0.001f,
                  .second_scale = 1,
                  .epsilon = 1e-8f,
                  .first = false};
  EXPECT_TRUE(adamw8bit_update(weights.data(), gradients.data(), first.data(), &first_absmax, second.data(),
                               &second_absmax, 256, s));
  for (size_t i = 1; i < 256; ++i) EXPECT_GT(second[i], 0);
  gradients[1] = 0;
  EXPECT_TRUE(adamw8bit_update(weights.data(), gradients.data(), first.data(), &first_absmax, second.data(),
                               &second_absmax, 256, s));
  EXPECT_LT(std::abs(weights[1]), 0.1);
}

TEST(Optimizer, ThreadsDoNotChangeTheResult) {
  for (const auto* kind : {"adamw", "adamw8bit"}) {
    const int64_t rows = 700, columns = 517;  // above the size that is shared out, not a multiple of a chunk
    const auto start = at::rand({rows, columns}), gradient = at::rand({rows, columns}) - 0.5;
    auto one = start.clone(), three = start.clone();
    Optimizer alone(spec_of(kind), {{"w", &one}}, 1), shared(spec_of(kind), {{"w", &three}}, 3);
    for (int step = 0; step < 3; ++step) {
      EXPECT_TRUE(alone.update({gradient}, 0.1, 1e-3));
      EXPECT_TRUE(shared.update({gradient}, 0.1, 1e-3));
    }
    EXPECT_TRUE(at::equal(one, three)) << kind;
    EXPECT_EQ(gradient_norm({gradient}, 1), gradient_norm({gradient}, 3));
  }
}

TEST(Optimizer, TheNormIsOverAllTensorsAndClippingScalesByIt) {
  const std::vector<Tensor> sums = {at::full({3}, 2.0f), Tensor(),
                                    at::full({1, 1}, 2.0f)};  // 4 elements of 2; one without a gradient
  EXPECT_DOUBLE_EQ(gradient_norm(sums, 1), 4);
  EXPECT_NEAR(clip_share(4, 1), 0.25, 1e-6);
  EXPECT_EQ(clip_share(0.5, 1), 1);
  EXPECT_EQ(clip_share(1e9, 0), 1);
  EXPECT_TRUE(std::isnan(gradient_norm({at::full({3}, NAN)}, 1)));
  EXPECT_TRUE(std::isinf(gradient_norm({at::full({3}, INFINITY)}, 1)));
  EXPECT_TRUE(std::isfinite(gradient_norm({at::full({3}, 3e38f)}, 1)));  // squares need double
}

TEST(Optimizer, SaysWhenTheUpdateMadeSomethingThatIsNotFinite) {
  auto weights = at::full({1, 300}, 3e38f);
  Optimizer optimizer(spec_of("sgd"), {{"w", &weights}}, 1);
  EXPECT_TRUE(optimizer.update({at::full({1, 300}, 1.0f)}, 1, 1));
  auto gradient = at::zeros({1, 300});
  gradient[0][299] = -3e38f;
  EXPECT_FALSE(optimizer.update({gradient}, 1, 1));
  auto other = at::zeros({1, 300});
  Optimizer adamw(spec_of("adamw"), {{"w", &other}}, 1);
  gradient[0][299] = 3e30f;  // its square overflows
  EXPECT_FALSE(adamw.update({gradient}, 1, 1));
}

TEST(Optimizer, BetasAreTwoNumbers) {
  auto spec = spec_of("adamw");
  spec.betas = {0.9};
  auto weights = at::zeros({1, 3});
  EXPECT_THROW(Optimizer(spec, {{"w", &weights}}, 1), RecipeError);
}

// Three whole steps: forward, mean over all supervised tokens, backward, clipping, AdamW with decay,
// schedule.
TEST(WholeStep, EqualsPeftOnTheTinyLlama) {
  const auto golden = open_safetensors(golden_folder("train") / "peft_steps.safetensors");
  const auto record = read_json(golden_folder("train") / "peft_steps.json");
  for (const int64_t row_tokens : {2048, 32}) {
    AdapterSpec adapter = lora(4);
    adapter.alpha = 6;
    TinyRun run(adapter);
    for (auto& [name, tensor, place] : run.leaves) {
      const at::NoGradGuard no_graph;
      tensor->copy_(tensor_of(golden, "start." + name));
    }
    run.held_out.clear();
    run.samples.clear();
    for (size_t i = 0; i < record["rows"].size(); ++i) {
      Sample sample;
      sample.tokens = record["rows"][i].get<std::vector<int32_t>>();
      sample.weights.assign(sample.tokens.size(), 0);
      for (auto t = record["first_supervised"][i].get<size_t>(); t < sample.tokens.size(); ++t)
        sample.weights[t] = 1;
      run.samples.push_back(sample);
    }
    TrainSpec spec;
    spec.threads = 2;
    spec.epochs = 3;
    spec.batch = {.samples = 4, .tokens = 0, .pass_tokens = row_tokens};
    spec.optimizer.learning_rate = 0.02;
    spec.optimizer.weight_decay = 0.05;
    spec.optimizer.clip_norm = record["clip_norm"].get<double>();
    spec.schedule.kind = "linear";
    const TemporaryFolder folder;
    const auto result = train(
        spec, run.job(folder / "run"), {.on_step = [&](const StepRecord& step) {
          const auto i = static_cast<size_t>(step.step - 1);
          EXPECT_NEAR(step.loss / record["losses"][i].get<double>(), 1, 1e-5) << step.step;
          EXPECT_NEAR(step.gradient_norm / record["norms"][i].get<double>(), 1, 1e-5) << step.step;
          EXPECT_NEAR(step.learning_rate / record["learning_rates"][i].get<double>(), 1, 1e-12) << step.step;
          if (step.step == 2) return;
          for (const auto& [name, tensor, place] : run.leaves)
            EXPECT_LT(distance(tensor->detach(),
                               tensor_of(golden, "after." + std::to_string(step.step) + "." + name)),
                      1e-5)
                << step.step << " " << name;
        }});
    EXPECT_LT(result.rows, result.tokens);  // two samples share a prompt, which PEFT computes twice
  }
}

}  // namespace retort
