// Each operation against its definition composed of plain LibTorch calls in fp32, or against PEFT.
#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <thread>

#include "ops/attend.h"
#include "ops/composed.h"
#include "ops/embed.h"
#include "ops/gated.h"
#include "ops/gemm_emulated.h"   // tests/ops
#include "ops/golden_tensors.h"  // tests/ops
#include "ops/gradient_sink.h"
#include "ops/head.h"
#include "ops/norm.h"
#include "ops/recompute.h"
#include "ops/rotate.h"
#include "ops/tensors.h"  // tests/ops
#include "ops/use_kernel.h"

namespace retort {
namespace {

// A prefix of 7 rows with two children of 5 and 4 rows, a grandchild of 3 on the second, and a lone text
// of 6.
Forest small_forest() {
  Forest forest;
  const auto rows = [](int count, int from) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back((from + 3 * i) % 19);
    return tokens;
  };
  const auto prefix = forest.add_segment(rows(7, 1));
  forest.add_segment(rows(5, 2), prefix);
  const auto second = forest.add_segment(rows(4, 3), prefix);
  forest.add_segment(rows(3, 4), second);
  forest.add_segment(rows(6, 5));
  return forest;
}

// [N,N]: whether row i may see row j, from parents and rows alone.
Tensor visible(const Forest& forest, int64_t window) {
  auto mask = at::zeros({forest.size(), forest.size()}, at::TensorOptions(at::kBool));
  auto* seen = mask.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < forest.size(); ++i) {
    int32_t segment = 0;
    while (!(forest.segments[static_cast<size_t>(segment)].begin <= i &&
             i < forest.segments[static_cast<size_t>(segment)].end))
      ++segment;
    for (int32_t s = segment; s >= 0; s = forest.segments[static_cast<size_t>(s)].parent)
      for (int64_t j = forest.segments[static_cast<size_t>(s)].begin;
           j < forest.segments[static_cast<size_t>(s)].end; ++j) {
        const auto back = forest.positions[static_cast<size_t>(i)] - forest.positions[static_cast<size_t>(j)];
        if (back >= 0 && (window == 0 || back < window)) seen[i * forest.size() + j] = true;
      }
  }
  return mask;
}

TEST(Attend, EqualsDenseMaskedAttentionOverAForest) {
  const auto forest = small_forest();
  const auto n = forest.size();
  for (const int64_t window : {0, 4})
    for (const double cap : {0.0, 1.5}) {
      auto pass = make_pass(forest, at::kFloat);
      auto q = random({n, 6, 8}, 1).requires_grad_(), k = random({n, 2, 8}, 2).requires_grad_(),
           v = random({n, 2, 8}, 3).requires_grad_();
      const auto dy = random({n, 48}, 4);
      const auto ours = attend(q, k, v, {0.4, cap, window, 0}, pass);
      const auto our_gradients = torch::autograd::grad({ours}, {q, k, v}, {dy});
      auto scores =
          at::matmul(q.transpose(0, 1), k.repeat_interleave(3, 1).permute({1, 2, 0})) * 0.4;  // [H,N,N]
      if (cap > 0) scores = cap * at::tanh(scores / cap);
      const auto p = scores.masked_fill(visible(forest, window).logical_not(), -INFINITY).softmax(-1);
      const auto reference =
          at::matmul(p, v.repeat_interleave(3, 1).transpose(0, 1)).transpose(0, 1).reshape({n, 48});
      const auto gradients = torch::autograd::grad({reference}, {q, k, v}, {dy});
      EXPECT_LT(distance(ours, reference), 1e-5);
      for (size_t i = 0; i < 3; ++i)
        EXPECT_LT(distance(our_gradients[i], gradients[i]), 1e-5)
            << i << " window " << window << " cap " << cap;
    }
}

TEST(Attend, TilesOfALongTextJoin) {
  Forest forest;
  forest.add_segment(std::vector<int32_t>(300, 1));  // three tiles
  for (const int64_t window : {0, 50}) {
    const auto pass = make_pass(forest, at::kFloat);
    auto q = random({300, 2, 8}, 1).requires_grad_(), k = random({300, 1, 8}, 2).requires_grad_(),
         v = random({300, 1, 8}, 3).requires_grad_();
    const auto dy = random({300, 16}, 4);
    const auto ours = attend(q, k, v, {0, 0, window, 0}, pass);
    const auto our_gradients = torch::autograd::grad({ours}, {q, k, v}, {dy});
    const auto scores =
        at::matmul(q.transpose(0, 1), k.repeat_interleave(2, 1).permute({1, 2, 0})) / std::sqrt(8.0);
    const auto p = scores.masked_fill(visible(forest, window).logical_not(), -INFINITY).softmax(-1);
    const auto reference =
        at::matmul(p, v.repeat_interleave(2, 1).transpose(0, 1)).transpose(0, 1).reshape({300, 16});
    const auto gradients = torch::autograd::grad({reference}, {q, k, v}, {dy});
    EXPECT_LT(distance(ours, reference), 1e-5);
    for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(our_gradients[i], gradients[i]), 1e-5);
  }
}

// Dense masked attention over a forest, with autograd's gradients: value, dq, dk, dv.
std::vector<Tensor> dense_attention(const Forest& forest, const Tensor& q, const Tensor& k, const Tensor& v,
                                    const Tensor& dy, int64_t window) {
  const auto group = q.size(1) / k.size(1);
  const auto scores = at::matmul(q.transpose(0, 1), k.repeat_interleave(group, 1).permute({1, 2, 0})) /
                      std::sqrt(static_cast<double>(q.size(2)));
  const auto p = scores.masked_fill(visible(forest, window).logical_not(), -INFINITY).softmax(-1);
  const auto y =
      at::matmul(p, v.repeat_interleave(group, 1).transpose(0, 1)).transpose(0, 1).reshape({q.size(0), -1});
  auto all = torch::autograd::grad({y}, {q, k, v}, {dy});
  all.insert(all.begin(), y);
  return all;
}

// Branches over a shared text that is longer than a chunk of packed keys, and than several: the kept panels
// must be those of the path.
Forest branches(int64_t shared) {
  Forest forest;
  const auto rows = [](int64_t count, int32_t token) {
    return std::vector<int32_t>(static_cast<size_t>(count), token);
  };
  const auto head = forest.add_segment(rows(shared, 1));
  const auto branch = forest.add_segment(rows(70, 2), head);
  forest.add_segment(rows(5, 3), branch);
  forest.add_segment(rows(90, 4), branch);
  forest.add_segment(rows(33, 5), head);
  forest.add_segment(rows(41, 6));
  return forest;
}

// Of every kernel, since a panel of each is of another width and a strip of scores is whole panels.
void expect_long_shared_texts() {
  for (const int64_t shared : {230, 517})
    for (const int64_t window : {0, 100})
      for (const auto type : {at::kFloat, at::kBFloat16})
        for (const int threads : {1, 2}) {
          const auto forest = branches(shared);
          const auto n = forest.size();
          const auto values = [&](std::initializer_list<int64_t> shape, uint64_t seed) {
            return random(shape, seed).to(type).requires_grad_();
          };
          const auto q = values({n, 6, 16}, 1), k = values({n, 2, 16}, 2), v = values({n, 2, 16}, 3);
          const auto dy = random({n, 96}, 4).to(type);
          const auto before = at::get_num_threads();
          at::set_num_threads(threads);
          const auto ours = attend(q, k, v, {0, 0, window, 0}, make_pass(forest, type));
          auto gradients = torch::autograd::grad({ours}, {q, k, v}, {dy});
          at::set_num_threads(before);
          gradients.insert(gradients.begin(), ours);
          const auto wide = [](const Tensor& x) { return x.detach().to(at::kFloat).requires_grad_(); };
          const auto reference =
              dense_attention(forest, wide(q), wide(k), wide(v), dy.to(at::kFloat), window);
          for (size_t i = 0; i < 4; ++i)
            EXPECT_LT(distance(gradients[i].to(at::kFloat), reference[i]), type == at::kFloat ? 1e-5 : 8e-3)
                << i << " shared " << shared << " window " << window << " threads " << threads;
        }
}

TEST(Attend, LongSharedTextsInBothTypesOnOneThreadAndTwoByEveryKernel) {
  for (const auto* kernel : every_kernel()) {
    SCOPED_TRACE(kernel->name);
    const UseKernel use(*kernel);
    expect_long_shared_texts();
  }
}

// Latent attention: a value is narrower, or wider, than a key. Whole texts, and single rows in place.
void expect_values_of_another_width() {
  for (const auto& [width, values] : {std::pair<int64_t, int64_t>{24, 10}, {16, 48}})
    for (const auto type : {at::kFloat, at::kBFloat16})
      for (const int threads : {1, 2}) {
        const auto forest = branches(260);
        const auto n = forest.size();
        const auto some = [&](std::initializer_list<int64_t> shape, uint64_t seed) {
          return random(shape, seed).to(type).requires_grad_();
        };
        const auto q = some({n, 4, width}, 1), k = some({n, 2, width}, 2), v = some({n, 2, values}, 3);
        const auto dy = random({n, 4 * values}, 4).to(type);
        const auto before = at::get_num_threads();
        at::set_num_threads(threads);
        const auto pass = make_pass(forest, type);
        const auto ours = attend(q, k, v, {}, pass);
        auto gradients = torch::autograd::grad({ours}, {q, k, v}, {dy});
        at::set_num_threads(before);
        gradients.insert(gradients.begin(), ours);
        const auto wide = [](const Tensor& x) { return x.detach().to(at::kFloat).requires_grad_(); };
        const auto reference = dense_attention(forest, wide(q), wide(k), wide(v), dy.to(at::kFloat), 0);
        const auto near = type == at::kFloat ? 1e-5 : 8e-3;
        for (size_t i = 0; i < 4; ++i)
          EXPECT_LT(distance(gradients[i].to(at::kFloat), reference[i]), near) << i << " threads " << threads;
        auto single = pass;
        single.blocks.clear();
        for (auto block : pass.blocks) block.q_begin = block.q_end - 1, single.blocks.push_back(block);
        const at::NoGradGuard no_graph;
        const auto rows = attend(q, k, v, {}, single);
        for (const auto& block : single.blocks)
          EXPECT_LT(distance(rows[block.q_begin].to(at::kFloat), reference[0][block.q_begin]), near);
      }
}

TEST(Attend, ValuesMayBeOfAnotherWidthThanKeysByEveryKernel) {
  for (const auto* kernel : every_kernel()) {
    SCOPED_TRACE(kernel->name);
    const UseKernel use(*kernel);
    expect_values_of_another_width();
  }
}

// Pairs next to each other, behind some dimensions that stay: against complex numbers.
TEST(Rotate, InterleavedPairsTurnAsComplexNumbers) {
  auto table = std::make_shared<RotaryTable>();
  table->positions = 20, table->half = 3;
  const auto angles = at::outer(at::arange(20, at::kFloat), at::tensor({1.0, 0.3, 0.01}, at::kFloat));
  const auto list = [](const Tensor& x) {
    const auto flat = x.contiguous();
    return std::vector<float>(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
  };
  table->cosine = list(angles.cos()), table->sine = list(angles.sin());
  const auto positions = at::tensor({4, 0, 19, 7}, at::TensorOptions(at::kLong));
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto x = random({4, 2, 11}, 5).to(type).requires_grad_();
    const auto dy = random({4, 2, 11}, 6).to(type);
    const auto ours = rotate(x, positions, table, {4, true});
    const auto wide = x.detach().to(at::kFloat).requires_grad_();
    const auto pairs = at::view_as_complex(wide.narrow(2, 4, 6).contiguous().view({4, 2, 3, 2}));
    const auto turn = at::polar(at::ones({4, 1, 3}), angles.index_select(0, positions).unsqueeze(1));
    const auto turned = at::view_as_real(pairs * turn).reshape({4, 2, 6});
    const auto expected = at::cat({wide.narrow(2, 0, 4), turned, wide.narrow(2, 10, 1)}, 2);
    const auto near = type == at::kFloat ? 1e-6 : 4e-3;
    EXPECT_LT(distance(ours.to(at::kFloat), expected), near);
    EXPECT_LT(distance(torch::autograd::grad({ours}, {x}, {dy})[0].to(at::kFloat),
                       torch::autograd::grad({expected}, {wide}, {dy.to(at::kFloat)})[0]),
              near);
  }
}

// One query a text, as in decoding: keys are read in place.
TEST(Attend, SingleRowsEqualTheRowsOfWholeTexts) {
  const auto forest = branches(300);
  const auto n = forest.size();
  const auto q = random({n, 6, 16}, 1), k = random({n, 2, 16}, 2), v = random({n, 2, 16}, 3);
  const at::NoGradGuard no_graph;
  for (const int64_t window : {0, 100}) {
    const auto pass = make_pass(forest, at::kFloat);
    const auto whole = attend(q, k, v, {0, 0, window, 0}, pass);
    auto single = pass;
    single.blocks.clear();
    for (const auto& block : pass.blocks) {  // the last query of each segment alone
      auto last = block;
      last.q_begin = block.q_end - 1;
      single.blocks.push_back(last);
    }
    const auto rows = attend(q, k, v, {0, 0, window, 0}, single);
    for (const auto& block : single.blocks)
      EXPECT_LT(distance(rows[block.q_begin], whole[block.q_begin]), 1e-6) << window;
  }
}

TEST(RmsNorm, GradientsEqualAutograd) {
  auto x = random({5, 37}, 1).requires_grad_(), w = random({37}, 2).requires_grad_();
  const auto dy = random({5, 37}, 3);
  const auto ours = rms_norm(x, {w, 1e-5, 1, {}});
  const auto reference = x * (x.square().mean(-1, true) + 1e-5).rsqrt() * (1 + w);
  EXPECT_LT(distance(ours, reference), 1e-6);
  const auto a = torch::autograd::grad({ours}, {x, w}, {dy}),
             b = torch::autograd::grad({reference}, {x, w}, {dy});
  for (size_t i = 0; i < 2; ++i) EXPECT_LT(distance(a[i], b[i]), 1e-5);
}

TEST(RmsNorm, ResidualAdditionJoinsIt) {
  auto x = random({5, 37}, 1).requires_grad_(), delta = random({5, 37}, 4).requires_grad_(),
       w = random({37}, 2).requires_grad_();
  const auto dsum = random({5, 37}, 3), dnormed = random({5, 37}, 5);
  const auto ours = add_rms_norm(x, delta, {w, 1e-5, 1, {}});
  const auto sum = x + delta, normed = sum * (sum.square().mean(-1, true) + 1e-5).rsqrt() * (1 + w);
  EXPECT_TRUE(ours.sum.equal(sum));
  EXPECT_LT(distance(ours.normed, normed), 1e-6);
  const auto a = torch::autograd::grad({ours.sum, ours.normed}, {x, delta, w}, {dsum, dnormed}, true),
             b = torch::autograd::grad({sum, normed}, {x, delta, w}, {dsum, dnormed}, true);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(a[i], b[i]), 1e-5);
  const auto alone = torch::autograd::grad({ours.normed}, {x, delta, w}, {dnormed}, true),
             reference = torch::autograd::grad({normed}, {x, delta, w}, {dnormed}, true);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(alone[i], reference[i]), 1e-5);
  EXPECT_TRUE(torch::autograd::grad({ours.sum}, {delta}, {dsum})[0].equal(dsum));
}

TEST(Linear, LoraRsLoraAndDoraEqualPeft) {
  const GoldenTensors golden("lora.safetensors");
  for (const std::string kind : {"lora", "rslora", "dora"}) {
    const auto leaf = [&](const char* name) { return golden(kind + "." + name).requires_grad_(); };
    Linear layer;
    layer.name = "proj";
    layer.weight = dense_weight(golden(kind + ".w"));
    layer.bias = golden(kind + ".bias");
    layer.adapter = LowRank{leaf("a"), leaf("b"), {}, golden(kind + ".scaling").item<double>(), 0};
    if (kind == "dora") layer.adapter->magnitude = leaf("m");
    auto x = leaf("x");
    Pass pass;
    const auto y = linear(x, layer, pass);
    EXPECT_LT(distance(y, golden(kind + ".y")), 1e-5) << kind;
    std::vector<Tensor> inputs{x, layer.adapter->a, layer.adapter->b};
    std::vector<std::string> names{"dx", "da", "db"};
    if (kind == "dora") inputs.push_back(layer.adapter->magnitude), names.push_back("dm");
    const auto gradients = torch::autograd::grad({y}, inputs, {golden(kind + ".dy")});
    for (size_t i = 0; i < names.size(); ++i)
      EXPECT_LT(distance(gradients[i], golden(kind + "." + names[i])), 1e-5) << kind << " " << names[i];
  }
}

// Rows of zeros (pruned ones, padding) have no direction: their scale is 1. Before, they were 0 / 0 in both
// directions. Rows 1 and 2 are zeros, 2 with an update; B A undoes row 3; row 4 has a magnitude of zero.
TEST(Linear, DoraLeavesRowsOfZerosAlone) {
  const auto a = random({4, 64}, 1), b = random({8, 4}, 2);
  auto w = random({8, 64}, 3);
  const double s = 2;
  for (const int64_t row : {1, 2}) w[row].zero_();
  for (const int64_t row : {0, 1}) b[row].zero_();
  w[3].copy_(-s * at::matmul(b[3], a));
  auto magnitude = w.norm(2, {1});
  magnitude[4] = 0;
  Linear layer;
  layer.name = "proj";
  layer.weight = dense_weight(w);
  layer.adapter = LowRank{a.clone().requires_grad_(), b.clone().requires_grad_(),
                          magnitude.clone().requires_grad_(), s, 0};
  auto x = random({5, 64}, 4).requires_grad_();
  const auto y = linear(x, layer, Pass{});
  const auto dy = random({5, 8}, 5);
  const auto gradients =
      torch::autograd::grad({y}, {x, layer.adapter->a, layer.adapter->b, layer.adapter->magnitude}, {dy});
  for (const auto& values : {y, gradients[0], gradients[1], gradients[2], gradients[3]})
    EXPECT_TRUE(values.isfinite().all().item<bool>());

  // The definition, with the norm as a constant.
  const auto v = w + s * at::matmul(b, a), norms = v.norm(2, {1});
  const auto zero = norms.le(1e-5 * magnitude);
  EXPECT_EQ(zero.sum().item<int64_t>(), 2);  // rows 1 and 3, the latter but for rounding
  const auto size = at::where(zero, at::ones_like(norms), magnitude / norms);
  const auto rest =
      at::arange(8).ne(3).nonzero().squeeze(1);  // what rounding leaves of row 3 has a direction
  const auto expected = at::matmul(x.detach(), v.t());
  EXPECT_LT(distance(y.index_select(1, rest), (expected * size).index_select(1, rest)), 1e-5);
  const auto dm = (dy * expected).sum(0) * at::where(zero, at::zeros_like(norms), 1 / norms);
  EXPECT_LT(distance(gradients[3].index_select(0, rest), dm.index_select(0, rest)), 1e-5);
  EXPECT_EQ(gradients[3][1].item<float>(), 0);
  EXPECT_NE(gradients[3][4].item<float>(), 0);              // may leave zero again
  EXPECT_NE(gradients[2][1].abs().sum().item<float>(), 0);  // and a row of zeros may learn
}

// Where an update nearly undoes a row, the norm is that of the row, not of what the square's parts round to.
TEST(Linear, DoraKnowsTheNormOfARowThatIsNearlyUndone) {
  const auto a = random({4, 64}, 1), b = random({8, 4}, 2), rest = 1e-4 * random({8, 64}, 3);
  Linear layer;
  layer.name = "proj";
  layer.weight = dense_weight(rest - at::matmul(b, a));
  layer.adapter = LowRank{a, b, at::ones({8}), 1, 0};
  const auto x = random({5, 64}, 4);
  const auto v = layer.weight.dense + at::matmul(b, a);
  EXPECT_LT(distance(linear(x, layer, Pass{}), at::matmul(x, v.t()) / v.norm(2, {1})), 2e-2);
}

TEST(Linear, DropoutIsKeyedAndItsGradientMatchesItsDraws) {
  Linear layer;
  layer.name = "proj";
  layer.weight = dense_weight(at::zeros({8, 64}));
  layer.adapter =
      LowRank{random({4, 64}, 1).requires_grad_(), random({8, 4}, 2).requires_grad_(), {}, 2, 0.25};
  auto x = random({32, 64}, 3).requires_grad_();
  Pass pass;
  pass.training = true;
  pass.dropout_key = 11;
  const auto y = linear(x, layer, pass);
  EXPECT_TRUE(linear(x, layer, pass).equal(y));  // the same key, the same draws
  auto other = pass;
  other.dropout_key = 12;
  EXPECT_FALSE(linear(x, layer, other).equal(y));
  auto quiet = pass;
  quiet.training = false;
  EXPECT_LT(distance(linear(x, layer, quiet),
                     at::matmul(at::matmul(x, layer.adapter->a.t()), layer.adapter->b.t()) * 2),
            1e-5);
  // y is linear in x for fixed draws: <dy, y> = <dx, x>, and the same for a and b.
  const auto dy = random({32, 8}, 4);
  const auto gradients = torch::autograd::grad({y}, {x, layer.adapter->a, layer.adapter->b}, {dy});
  const auto product = (dy * y).sum().item<double>();
  EXPECT_NEAR((gradients[0] * x).sum().item<double>() / product, 1, 1e-5);
  EXPECT_NEAR((gradients[1] * layer.adapter->a).sum().item<double>() / product, 1, 1e-5);
  EXPECT_NEAR((gradients[2] * layer.adapter->b).sum().item<double>() / product, 1, 1e-5);
  // About a quarter is dropped: where a row of a is one column, u is x there or 0.
  layer.adapter->a = at::eye(4, 64);
  layer.adapter->b = at::eye(8, 4) * 0.5;
  const auto shown = linear(at::ones({4000, 64}), layer, pass).narrow(1, 0, 4);
  EXPECT_NEAR(shown.eq(0).to(at::kFloat).mean().item<double>(), 0.25, 0.02);
  EXPECT_NEAR(shown.max().item<double>(), 1 / 0.75, 1e-5);
}

TEST(Linear, QuantizedBaseEqualsItsWidenedSelf) {
  for (const auto type : {WeightType::q8_0, WeightType::q4_1, WeightType::nf4, WeightType::nf4_dq,
                          WeightType::int8_row, WeightType::bf16}) {
    Linear layer;
    layer.name = "proj";
    layer.weight = convert_weight(dense_weight(random({96, 64}, 1)), type);
    const auto wide = widen(layer.weight, at::kFloat).clone();
    auto x = random({10, 64}, 2).requires_grad_();
    const auto dy = random({10, 96}, 3);
    const auto y = linear(x, layer, Pass{});
    EXPECT_LT(distance(y, at::matmul(x, wide.t())), 1e-6) << type_info(type).name;
    EXPECT_LT(distance(torch::autograd::grad({y}, {x}, {dy})[0], at::matmul(dy, wide)), 1e-6);
    EXPECT_LT(distance(wide, random({96, 64}, 1)), 0.2);  // and it is the matrix that was asked for
  }
}

std::vector<Target>
some_targets() {  // row 2 has two labels, rows 0 and 4 one, the rest none; unordered on purpose
  return {{4, 7, 0.5f, 0}, {2, 1, 1, 0}, {0, 30, 2, 0}, {2, 5, 0.25f, 1}};
}

TEST(CrossEntropy, ValueAndGradientsEqualTheDefinition) {
  for (const double cap : {0.0, 2.0})
    for (const bool learns : {false, true}) {
      Head head;
      head.soft_cap = cap;
      head.linear.name = "lm_head";
      head.linear.weight = dense_weight(random({31, 16}, 1).requires_grad_(learns));
      auto hidden = random({6, 16}, 2).requires_grad_();
      const auto targets = some_targets();
      const auto loss = cross_entropy(hidden, targets, head, Pass{});
      EXPECT_EQ(loss.weight, 3.75);
      auto logits = at::matmul(hidden, head.linear.weight.dense.t());
      if (cap > 0) logits = cap * at::tanh(logits / cap);
      const auto log_p = logits.log_softmax(-1);
      auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
      for (const auto& target : targets)
        reference = reference - target.weight * log_p[target.row][target.label];
      EXPECT_NEAR(loss.nats.item<double>() / reference.item<double>(), 1, 1e-6);
      std::vector<Tensor> inputs{hidden};
      if (learns) inputs.push_back(head.linear.weight.dense);
      const auto factor = at::scalar_tensor(0.5, at::TensorOptions(at::kFloat));
      const auto ours = torch::autograd::grad({loss.nats}, inputs, {factor}),
                 theirs = torch::autograd::grad({reference}, inputs, {factor});
      for (size_t i = 0; i < inputs.size(); ++i)
        EXPECT_LT(distance(ours[i], theirs[i]), 1e-5) << "cap " << cap;
      const auto scores = score_targets(hidden, targets, head, Pass{});
      for (size_t i = 0; i < targets.size(); ++i) {
        EXPECT_NEAR(scores.log_probabilities[static_cast<int64_t>(i)].item<double>(),
                    log_p[targets[i].row][targets[i].label].item<double>(), 1e-5);
        EXPECT_EQ(scores.argmax[static_cast<int64_t>(i)].item<int64_t>(),
                  log_p[targets[i].row].argmax().item<int64_t>());
      }
    }
}

TEST(CrossEntropy, QuantizedHeadInManyPartsEqualsItsWidenedSelf) {
  Head quantized, dense;
  quantized.linear.weight =
      convert_weight(dense_weight(random({9001, 32}, 1)), WeightType::q8_0);  // three parts, the last ragged
  dense.linear.weight = dense_weight(widen(quantized.linear.weight, at::kFloat));
  auto hidden = random({1300, 32}, 2).requires_grad_();  // more rows than one chunk of logits
  std::vector<Target> targets;
  for (int32_t i = 0; i < 1300; ++i) targets.push_back({i, i * 7 % 9001, 1, 0});
  const auto a = cross_entropy(hidden, targets, quantized, Pass{}),
             b = cross_entropy(hidden, targets, dense, Pass{});
  EXPECT_NEAR(a.nats.item<double>() / b.nats.item<double>(), 1, 1e-6);
  EXPECT_LT(
      distance(torch::autograd::grad({a.nats}, {hidden})[0], torch::autograd::grad({b.nats}, {hidden})[0]),
      1e-5);
}

TEST(CrossEntropy, NoTargetsIsZeroWithAZeroGradient) {
  Head head;
  head.linear.weight = dense_weight(random({31, 16}, 1));
  auto hidden = random({6, 16}, 2).requires_grad_();
  const auto loss = cross_entropy(hidden, {}, head, Pass{});
  EXPECT_EQ(loss.weight, 0);
  EXPECT_EQ(loss.nats.item<double>(), 0);
  EXPECT_EQ(torch::autograd::grad({loss.nats}, {hidden})[0].abs().max().item<double>(), 0);
}

Linear table_of(const Weight& weight) {
  Linear table;
  table.name = "embed_tokens", table.weight = weight;
  return table;
}

TEST(Embed, LooksUpQuantizedRowsAndGivesGradientsToDenseOnes) {
  const auto forest = small_forest();
  const auto pass = make_pass(forest, at::kFloat);
  const auto quantized = convert_weight(dense_weight(random({19, 32}, 1)), WeightType::q8_0);
  EXPECT_TRUE(embed(table_of(quantized), pass, 2)
                  .equal(widen(quantized, at::kFloat).index_select(0, pass.tokens) * 2));
  const auto dense = dense_weight(random({19, 32}, 1).requires_grad_());
  const auto y = embed(table_of(dense), pass, 2), dy = random({forest.size(), 32}, 5);
  const auto ours = torch::autograd::grad({y}, {dense.dense}, {dy})[0];
  const auto reference =
      torch::autograd::grad({dense.dense.index_select(0, pass.tokens) * 2}, {dense.dense}, {dy})[0];
  EXPECT_LT(distance(ours, reference), 1e-6);
}

// Takes the gradients of some leaves, and remembers them.
class Kept : public GradientSink {
 public:
  explicit Kept(std::vector<Tensor> leaves) : leaves_(std::move(leaves)) {}
  bool take(const Tensor& leaf, Tensor gradient) override {
    for (const auto& mine : leaves_)
      if (mine.is_same(leaf)) return taken.push_back(gradient), true;
    return false;
  }
  bool take_rows(RowGradient gradient) override {
    for (const auto& mine : leaves_)
      if (mine.is_same(gradient.matrix)) return rows.push_back(gradient), true;
    return false;
  }
  bool take_product(ProductGradient gradient) override {
    for (const auto& mine : leaves_)
      if (mine.is_same(gradient.matrix)) return products.push_back(gradient), true;
    return false;
  }
  std::vector<Tensor> taken;
  std::vector<RowGradient> rows;
  std::vector<ProductGradient> products;

 private:
  std::vector<Tensor> leaves_;
};

TEST(GradientSink, HasTheEmbeddingsGradientAsRows) {
  auto pass = make_pass(small_forest(), at::kFloat);
  const auto dense = dense_weight(random({19, 32}, 1).requires_grad_());
  const auto dy = random({pass.size(), 32}, 5);
  const auto gradient_of = [&](const Pass& with) {
    return torch::autograd::grad({embed(table_of(dense), with, 2)}, {dense.dense}, {dy}, std::nullopt, false,
                                 true)[0];
  };
  const auto reference = gradient_of(pass);
  Kept sink({dense.dense}), another({});
  pass.gradients = &another;
  EXPECT_TRUE(gradient_of(pass).equal(reference));  // not its leaf
  pass.gradients = &sink;
  EXPECT_FALSE(gradient_of(pass).defined());
  ASSERT_EQ(sink.rows.size(), 1u);
  Tensor sum;
  sink.rows[0].add_to(sum);
  EXPECT_TRUE(sum.equal(reference));
  sink.rows[0].add_to(sum);
  EXPECT_LT(distance(sum, 2 * reference), 1e-6);
}

TEST(GradientSink, HasWhatALinearLayersWeightLearnsAndNothingElse) {
  auto pass = make_pass(small_forest(), at::kFloat);
  Linear first{"first",
               dense_weight(random({24, 32}, 1).requires_grad_()),
               random({24}, 2).requires_grad_(),
               {},
               std::nullopt,
               {}};
  Linear second{"second", dense_weight(random({16, 32}, 3).requires_grad_()), {}, {}, std::nullopt, {}};
  const auto x = random({pass.size(), 32}, 4).requires_grad_();
  const auto dy = random({pass.size(), 24}, 5), dz = random({pass.size(), 16}, 6);
  const auto gradients_of = [&] {
    const auto y = linear_group(x, {&first, &second}, pass);
    return torch::autograd::grad({y[0], y[1]}, {x, first.weight.dense, first.bias, second.weight.dense},
                                 {dy, dz}, std::nullopt, false, true);
  };
  const auto reference = gradients_of();
  Kept sink({second.weight.dense});
  pass.gradients = &sink;
  const auto others = gradients_of();
  for (const size_t i : {0, 1, 2}) EXPECT_TRUE(others[i].equal(reference[i])) << i;
  EXPECT_FALSE(others[3].defined());
  ASSERT_EQ(sink.taken.size(), 1u);
  EXPECT_TRUE(sink.taken[0].equal(reference[3]));
}

TEST(Linear, GradientsNeedNoValueButThoseOfDora) {
  const auto with = [](int64_t rank, bool dora, double dropout) {
    Linear layer{"proj", convert_weight(dense_weight(random({24, 32}, 1)), WeightType::q8_0), {}, {}, {}, {}};
    layer.bias = random({24}, 2).requires_grad_();
    if (rank == 0) {
      layer.weight = dense_weight(random({24, 32}, 1).requires_grad_());
      return layer;
    }
    layer.adapter = LowRank{random({rank, 32}, 3).requires_grad_(), random({24, rank}, 4).requires_grad_(),
                            dora ? random({24}, 5).requires_grad_() : Tensor(), 2, dropout};
    return layer;
  };
  for (const auto compute : {at::kFloat, at::kBFloat16})
    for (const auto& layer : {with(0, false, 0), with(4, false, 0), with(4, false, 0.3), with(4, true, 0)}) {
      auto pass = make_pass(small_forest(), compute);
      pass.training = true;
      const auto x = random({pass.size(), 32}, 6).to(compute).requires_grad_();
      const auto dy = random({pass.size(), 24}, 7).to(compute);
      std::vector<Tensor> wanted{x, layer.bias};
      if (layer.weight.trainable()) wanted.push_back(layer.weight.dense);
      if (layer.adapter) wanted.insert(wanted.end(), {layer.adapter->a, layer.adapter->b});
      const bool dora = layer.adapter && layer.adapter->magnitude.defined();
      if (dora) wanted.push_back(layer.adapter->magnitude);
      const auto whole = linear(x, layer, pass), left_out = linear(x, layer, pass, Wanted::gradients);
      EXPECT_GT(whole.count_nonzero().item<int64_t>(), 0);
      if (dora) {
        EXPECT_TRUE(left_out.equal(whole));
      } else if (!composed(x)) {
        EXPECT_EQ(left_out.count_nonzero().item<int64_t>(), 0);
      }
      const auto expected = torch::autograd::grad({whole}, wanted, {dy});
      const auto found = torch::autograd::grad({left_out}, wanted, {dy});
      for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(found[i].equal(expected[i])) << i;
    }
}

// A loss of fewer rows than the matrix is wide brings its factors; one of more rows, or of another matrix,
// the matrix.
TEST(GradientSink, HasAHeadsGradientAsFactorsWhereTheyAreSmaller) {
  auto pass = make_pass(small_forest(), at::kFloat);
  Head head{{"head", dense_weight(random({96, 32}, 1).requires_grad_()), {}, {}, std::nullopt, {}}, 0};
  const auto hidden = random({40, 32}, 2).requires_grad_();
  const auto gradients_of = [&](int32_t rows, double factor) {
    std::vector<Target> targets;
    for (int32_t r = 0; r < rows; ++r) targets.push_back({r, (r * 7) % 96, 1.5f, 0});
    return torch::autograd::grad({cross_entropy(hidden, targets, head, pass).nats * factor},
                                 {hidden, head.linear.weight.dense}, {}, std::nullopt, false, true);
  };
  for (const auto& [rows, factor, kept] : {std::tuple{8, 1.0, true}, {8, 0.3, true}, {40, 0.3, false}}) {
    pass.gradients = nullptr;
    const auto reference = gradients_of(rows, factor);
    Kept sink({head.linear.weight.dense}), another({});
    pass.gradients = &another;
    EXPECT_TRUE(gradients_of(rows, factor)[1].equal(reference[1]));
    pass.gradients = &sink;
    const auto gradients = gradients_of(rows, factor);
    EXPECT_TRUE(gradients[0].equal(reference[0]));
    EXPECT_EQ(gradients[1].defined(), !kept);
    ASSERT_EQ(sink.products.size(), kept ? 1u : 0u);
    if (!kept) continue;
    Tensor sum;
    sink.products[0].add_to(sum);
    EXPECT_LT(distance(sum, reference[1]), 1e-6);
    sink.products[0].add_to(sum);
    EXPECT_LT(distance(sum, 2 * reference[1]), 1e-6);
  }
}

TEST(Embed, NoiseIsKeyedAndBounded) {
  auto pass = make_pass(small_forest(), at::kFloat);
  const auto table = table_of(dense_weight(at::zeros({19, 32})));
  pass.embedding_noise = 5;
  EXPECT_EQ(embed(table, pass).abs().max().item<double>(), 0);  // not in training
  pass.training = true;
  const auto noise = embed(table, pass);
  EXPECT_TRUE(embed(table, pass).equal(noise));
  const double bound = 5 / std::sqrt(14.0 * 32);  // the longest text has 14 tokens
  EXPECT_LE(noise.abs().max().item<double>(), bound);
  EXPECT_GT(noise.abs().max().item<double>(), 0.9 * bound);
  EXPECT_NEAR(noise.mean().item<double>(), 0, 0.1 * bound);
}

TEST(Operations, ConcurrentBackwardsOverTheSameLeavesAgree) {
  const auto forest = small_forest();
  Linear layer;
  layer.name = "proj";
  layer.weight = convert_weight(dense_weight(random({32, 32}, 1)), WeightType::q8_0);
  layer.adapter =
      LowRank{random({4, 32}, 2).requires_grad_(), random({32, 4}, 3).requires_grad_(), {}, 2, 0.1};
  Head head;
  head.linear.weight = convert_weight(dense_weight(random({40, 32}, 4)), WeightType::q8_0);
  const auto gradient_of = [&](uint64_t seed) {
    at::set_num_threads(1);
    auto pass = make_pass(forest, at::kFloat);
    pass.training = true;
    auto x = random({forest.size(), 32}, seed);
    for (int i = 0; i < 4; ++i)
      x = recompute(x, {layer.adapter->a, layer.adapter->b},
                    [&](const Tensor& h, Wanted wanted) { return h + linear(h, layer, pass, wanted); });
    const std::vector<Target> targets{{3, 2, 1, 0}, {20, 5, 1, 0}};
    return torch::autograd::grad({cross_entropy(x, targets, head, pass).nats},
                                 {layer.adapter->a, layer.adapter->b});
  };
  std::vector<std::vector<Tensor>> alone, together(4);
  for (uint64_t i = 0; i < 4; ++i) alone.push_back(gradient_of(i));
  for (int round = 0; round < 5; ++round) {
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { together[i] = gradient_of(i); });
    for (auto& thread : threads) thread.join();
    for (size_t i = 0; i < 4; ++i)
      for (size_t j = 0; j < 2; ++j) EXPECT_TRUE(together[i][j].equal(alone[i][j]));
  }
}

}  // namespace
}  // namespace retort
