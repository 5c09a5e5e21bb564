// The composed form of every operation against the kernels of the CPU: values and all gradients, in the CPU's
// memory and on a device that LibTorch takes for another (tests/ops/pretend_device.h).
#include "ops/composed.h"

#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdlib>
#include <functional>

#include "ops/attend.h"
#include "ops/attend_chosen.h"
#include "ops/device.h"
#include "ops/embed.h"
#include "ops/gated.h"
#include "ops/head_rows.h"
#include "ops/index_loss.h"
#include "ops/keep_rows.h"
#include "ops/norm.h"
#include "ops/pretend_device.h"   // tests/ops
#include "ops/pretend_kernels.h"  // tests/ops
#include "ops/recompute.h"
#include "ops/rotate.h"
#include "ops/route.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

using Tensors = std::vector<Tensor>;

// fp32 differs by the order of sums. In bf16 (a rounding is 2^-9 = 2e-3) what lies between two LibTorch calls
// is rounded where a kernel keeps it in fp32.
double near_of(at::ScalarType type) { return type == at::kFloat ? 1e-5 : 1.2e-2; }

// The CPU, the pretended device, and the GPU that RETORT_TEST_DEVICE names (tools/device_check), which has to
// be opened before anything asks LibTorch for CUDA: so before main().
const std::vector<at::Device> kPlaces = [] {
  std::vector<at::Device> all{at::kCPU, pretend::kDevice};
  if (const char* named = std::getenv("RETORT_TEST_DEVICE")) all.push_back(open_device(named));
  return all;
}();

// Where `run` of expect_one_answer() computes. Weights, as everywhere, are in the CPU's memory.
at::Device place = at::kCPU;
Tensor on(const Tensor& x) { return x.to(place); }  // differentiable

// `run` computes values and gradients; both forms have to give the same, the composed one on a device too.
void expect_one_answer(std::string_view what, double near, const std::function<Tensors()>& run) {
  const auto by = [&](bool composed_form, at::Device where) {
    const ComposedScope scope(composed_form);
    place = where;
    auto all = run();
    place = at::kCPU;
    for (auto& each : all)
      if (each.defined()) each = each.cpu();
    return all;
  };
  const auto kernels = by(false, at::kCPU);
  const auto before = pretend::operations.load();
  for (const auto where : kPlaces) {
    const auto others = by(where.is_cpu(), where);
    ASSERT_EQ(others.size(), kernels.size());
    for (size_t i = 0; i < kernels.size(); ++i) {
      SCOPED_TRACE(testing::Message() << what << ", result " << i << " on " << where);
      ASSERT_EQ(others[i].defined(), kernels[i].defined());
      if (!kernels[i].defined()) continue;
      EXPECT_EQ(others[i].scalar_type(), kernels[i].scalar_type());
      EXPECT_GT(kernels[i].abs().max().item<double>(), 0);
      EXPECT_LT(distance(others[i], kernels[i].to(at::kDouble)), near);
    }
  }
  EXPECT_GT(pretend::operations, before) << what << " never ran on the device";
}

// y, then gradients of sum(y * dy) of the inputs.
Tensors with_gradients(const Tensor& y, const Tensors& inputs, const Tensor& dy) {
  auto all =
      torch::autograd::grad({y}, inputs, {dy.to(y.device(), y.scalar_type())}, std::nullopt, false, true);
  all.insert(all.begin(), y.detach());
  return all;
}

Tensor leaf(std::initializer_list<int64_t> sizes, uint64_t seed, at::ScalarType type = at::kFloat) {
  return random(sizes, seed).to(type).requires_grad_();
}

std::vector<int32_t> words(int64_t count, int32_t from) {
  std::vector<int32_t> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(static_cast<int32_t>((from + 7 * i) % 29));
  return all;
}

// A shared text with two branches, one of which branches again, and a text of its own; longer than what
// either form works on at a time.
Forest branches(int64_t shared) {
  Forest forest;
  const auto head = forest.add_segment(words(shared, 1));
  const auto branch = forest.add_segment(words(70, 2), head);
  forest.add_segment(words(5, 3), branch);
  forest.add_segment(words(90, 4), branch);
  forest.add_segment(words(33, 5), head);
  forest.add_segment(words(41, 6));
  return forest;
}

const auto kTypes = {at::kFloat, at::kBFloat16};

TEST(Composed, IsWhatAScopeOrAnotherDeviceAsksFor) {
  const auto here = at::zeros({1});
  {
    const ComposedScope off(false);
    EXPECT_FALSE(composed(here));
    EXPECT_TRUE(composed(at::zeros({1}, at::TensorOptions(at::kMeta))));
    {
      const ComposedScope on(true);
      EXPECT_TRUE(composed(here));
    }
    EXPECT_FALSE(composed(here));
  }
}

// What the tests below rest on.
TEST(PretendedDevice, IsNotTheCpu) {
  const auto there = at::ones({2, 2}).to(pretend::kDevice);
  EXPECT_EQ(at::mm(there, there).sum().item<float>(), 8);
  EXPECT_EQ((there * at::scalar_tensor(3.0)).sum().item<float>(), 12);  // a single number
  EXPECT_THROW(at::mm(there, at::ones({2, 2})), std::exception);
  EXPECT_THROW(there + at::ones({2, 2}), std::exception);
  EXPECT_THROW(there.index_select(0, at::zeros({1}, at::kLong)), std::exception);
  const volatile auto* const address = there.const_data_ptr<float>();
  EXPECT_EXIT(static_cast<void>(*address), testing::KilledBySignal(SIGSEGV), "");
}

TEST(Composed, Norms) {
  for (const auto type : kTypes) {
    const auto x = leaf({5, 3, 37}, 1, type), delta = leaf({5, 3, 37}, 4, type), w = leaf({37}, 2);
    const auto dy = random({5, 3, 37}, 3), dsum = random({5, 3, 37}, 6).to(type);
    const Norm norm{w, 1e-5, 1, {}};
    expect_one_answer("norm", near_of(type), [&] {
      return with_gradients(rms_norm(on(x), norm), {x, w}, dy);
    });
    expect_one_answer("sum and norm", near_of(type), [&] {
      const auto [sum, normed] = add_rms_norm(on(x), on(delta), norm);
      auto all = torch::autograd::grad({sum, normed}, {x, delta, w}, {on(dsum), on(dy.to(type))});
      all.insert(all.end(), {sum.detach(), normed.detach()});
      return all;
    });
  }
}

std::shared_ptr<const RotaryTable> some_rotary_table(int64_t half) {
  auto table = std::make_shared<RotaryTable>();
  table->positions = 20, table->half = half;
  for (int64_t i = 0; i < 20 * half; ++i) {
    const auto angle = static_cast<double>(i / half) / std::pow(7.0, i % half);
    table->cosine.push_back(static_cast<float>(std::cos(angle)));
    table->sine.push_back(static_cast<float>(std::sin(angle)));
  }
  return table;
}

TEST(Composed, Rotations) {
  const auto table = some_rotary_table(3);
  const auto positions = at::tensor({4, 0, 19, 7}, at::TensorOptions(at::kLong));
  for (const auto type : kTypes)
    for (const auto& part : {RotatedPart{0, false}, {4, true}, {2, false}}) {
      const auto x = leaf({4, 2, 11}, 5, type);
      expect_one_answer("rotation", near_of(type), [&] {
        return with_gradients(rotate(on(x), positions, table, part), {x}, random({4, 2, 11}, 6));
      });
    }
}

TEST(Composed, GatedActivations) {
  for (const auto type : kTypes)
    for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
      const auto gate = leaf({9, 16}, 1, type), up = leaf({9, 16}, 2, type), weights = leaf({9}, 3);
      const auto dy = random({9, 16}, 4);
      expect_one_answer("gated", near_of(type), [&] {
        return with_gradients(gated(on(gate), on(up), activation), {gate, up}, dy);
      });
      expect_one_answer("weighted", near_of(type), [&] {
        return with_gradients(weighted_gated(on(gate), on(up), on(weights), activation), {gate, up, weights},
                              dy);
      });
    }
}

LowRank adapter(int64_t out, int64_t in, uint64_t seed, double dropout, bool dora) {
  LowRank all{leaf({4, in}, seed), leaf({out, 4}, seed + 1), {}, 0.7, dropout};
  if (dora) all.magnitude = (3 + random({out}, seed + 2).abs()).requires_grad_();
  return all;
}

// A group of three: with an adapter, plain, and with a bias, whose matrices are trained or frozen.
TEST(Composed, GroupsOfLinearLayers) {
  for (const auto type : kTypes)
    for (const bool trained : {false, true})
      for (const bool dora : {false, true})
        for (const double dropout : {0.0, 0.25}) {
          Pass pass;
          pass.compute = type, pass.training = true, pass.dropout_key = 11;
          std::vector<Linear> layers(3);
          Tensors inputs{leaf({13, 30}, 1, type)};
          for (size_t i = 0; i < 3; ++i) {
            auto& layer = layers[i];
            const auto rows = 8 + 4 * static_cast<int64_t>(i);
            layer.name = "proj" + std::to_string(i);
            layer.weight = dense_weight(random({rows, 30}, 20 + i).requires_grad_(trained));
            if (trained) inputs.push_back(layer.weight.dense);
            if (i != 1) {
              layer.adapter = adapter(rows, 30, 30 + 3 * i, dropout, dora);
              inputs.insert(inputs.end(), {layer.adapter->a, layer.adapter->b});
              if (dora) inputs.push_back(layer.adapter->magnitude);
            }
            if (i == 2) inputs.push_back(layer.bias = leaf({rows}, 40));
          }
          expect_one_answer("group", near_of(type), [&] {
            auto values = linear_group(on(inputs[0]), {&layers[0], &layers[1], &layers[2]}, pass);
            Tensors slopes;
            for (size_t i = 0; i < 3; ++i)
              slopes.push_back(on(random({13, values[i].size(1)}, 50 + i).to(type)));
            auto all = torch::autograd::grad(values, inputs, slopes);
            for (const auto& value : values) all.push_back(value.detach());
            return all;
          });
        }
}

TEST(Composed, DropoutDrawsTheSame) {
  Linear layer;
  layer.name = "proj";
  layer.weight = dense_weight(at::zeros({64, 65}));
  layer.adapter = LowRank{at::eye(65, 65), at::eye(64, 65), {}, 1, 0.3};
  Pass pass;
  pass.training = true, pass.dropout_key = 0xFEDCBA9876543210ull;
  const auto by = [&](bool composed_form, at::Device where) {
    const ComposedScope scope(composed_form);
    return linear(at::ones({50, 65}).to(where), layer, pass).eq(0).cpu();
  };
  EXPECT_TRUE(at::equal(by(true, at::kCPU), by(false, at::kCPU)));
  EXPECT_TRUE(at::equal(by(true, pretend::kDevice), by(false, at::kCPU)));
  EXPECT_NEAR(by(true, at::kCPU).to(at::kFloat).mean().item<double>(), 0.3, 0.02);
}

// Where every format of blocks is made of what dense rows can be made into; the others come from files, and
// widen() alone knows them in either form.
TEST(Composed, MatricesOfEveryFormat) {
  int formats = 0;
  for (int i = 0; i < 256; ++i) {
    const auto type = static_cast<WeightType>(i);
    if (i > static_cast<int>(WeightType::int8_row)) break;
    const bool dense = type == WeightType::f32 || type == WeightType::f16 || type == WeightType::bf16;
    if (!dense && !can_quantize(type)) continue;
    ++formats;
    Linear layer;
    layer.name = "proj";
    layer.weight = convert_weight(dense_weight(random({40, 256}, 1)), type);
    layer.adapter = adapter(40, 256, 2, 0, false);
    for (const auto compute : kTypes) {
      const auto x = leaf({6, 256}, 3, compute);
      expect_one_answer(type_info(type).name, near_of(compute), [&] {
        return with_gradients(linear(on(x), layer, Pass{}), {x, layer.adapter->a, layer.adapter->b},
                              random({6, 40}, 4));
      });
    }
  }
  EXPECT_GE(formats, 12);
}

TEST(Composed, CodesWithScalesBesideThem) {
  const auto codes = at::randint(0, 120, {40, 64}, at::TensorOptions(at::kByte));
  const std::span bytes(reinterpret_cast<const std::byte*>(codes.const_data_ptr()), 40 * 64);
  Linear f8, packed;
  f8.weight = scaled_f8_weight(40, 64, bytes, nullptr, 0.01 * random({3, 2}, 1).abs() + 0.001, 16, 32);
  CodeScales scales;
  scales.scales = random({40, 4}, 2), scales.groups = 4, scales.group_columns = 32;
  packed.weight = packed4_weight(40, 128, bytes, nullptr, scales);
  for (const auto type : kTypes)
    for (const auto* layer : {&f8, &packed}) {
      const auto x = leaf({6, layer->weight.columns}, 3, type);
      expect_one_answer("codes", near_of(type), [&] {
        return with_gradients(linear(on(x), *layer, Pass{}), {x}, random({6, 40}, 4));
      });
    }
}

TEST(Composed, AttentionOverAForest) {
  struct Case {
    int64_t heads, shared, width, values;
    double scale, cap;
    int64_t window;
  };
  for (const auto type : kTypes)
    for (const auto& c :
         {Case{6, 2, 16, 16, 0, 0, 0},  // a whole text needs no mask
          Case{6, 2, 16, 16, 0.4, 0, 100}, Case{4, 4, 8, 8, 0.4, 1.5, 0}, Case{4, 1, 8, 8, 0, 2, 40},
          Case{4, 2, 24, 10, 0, 0, 0}, Case{4, 2, 16, 48, 0, 0, 30}})
      for (const int64_t shared : {7, 517}) {
        const auto pass = make_pass(branches(shared), type);
        const auto n = pass.size();
        const auto q = leaf({n, c.heads, c.width}, 1, type), k = leaf({n, c.shared, c.width}, 2, type),
                   v = leaf({n, c.shared, c.values}, 3, type);
        expect_one_answer("attention", near_of(type), [&] {
          return with_gradients(attend(on(q), on(k), on(v), {c.scale, c.cap, c.window, 0}, pass), {q, k, v},
                                random({n, c.heads * c.values}, 4));
        });
      }
}

// 30 tokens at once and then one, in rows of a cache that lie apart.
TEST(Composed, AttentionReadsACache) {
  for (const auto kind : {KvType::f32, KvType::bf16, KvType::int8})
    for (const auto type : kTypes)
      for (const int64_t values : {8, 0}) {  // 0: they are the front of the keys
        const auto run = [&]() -> Tensors {
          const at::NoGradGuard no_graph;
          auto cache = larger_cache({}, 0, 60, {{2, 2, 8, values, 0}, kind, type, place});
          Tensors all;
          for (const int64_t count : {30, 1}) {
            Pass pass;
            pass.compute = type, pass.cache = &cache;
            const int32_t done = count == 30 ? 0 : 30;
            for (int32_t i = 0; i < count; ++i)
              pass.cache_rows.push_back(done + i < 20 ? 3 + done + i : 20 + done + i);
            pass.tokens = at::zeros({count}, at::TensorOptions(at::kLong));
            pass.blocks = {{0,
                            static_cast<int32_t>(count),
                            {{3, 23}, {40, 40 + done + static_cast<int32_t>(count) - 20}}}};
            const auto k = on(random({count, 2, 8}, 2 + count).to(type));
            const auto v = values ? on(random({count, 2, 8}, 3 + count).to(type)) : k.narrow(2, 0, 6);
            all.push_back(attend(on(random({count, 4, 8}, 1 + count).to(type)), k, v, {0, 0, 0, 1}, pass));
          }
          return all;
        };
        expect_one_answer("cache", kind == KvType::f32 ? near_of(type) : 1.2e-2, run);
      }
}

TEST(Composed, ChosenKeysAndAttentionToThem) {
  const auto pass = make_pass(branches(60), at::kFloat);
  const auto n = pass.size();
  const auto index_q = random({n, 5, 12}, 1), index_k = random({n, 1, 12}, 2), w = random({n, 5}, 3);
  for (const int64_t top : {3, 40, 100}) {
    const auto by = [&](bool composed_form, at::Device where) {
      const ComposedScope scope(composed_form);
      return choose_keys(index_q.to(where), index_k.to(where), w.to(where), top, 0, pass);
    };
    const auto chosen = by(false, at::kCPU);
    for (const auto& other : {by(true, at::kCPU), by(true, pretend::kDevice)}) {
      EXPECT_EQ(other->first, chosen->first);
      EXPECT_EQ(other->rows, chosen->rows);
    }
    for (const auto type : kTypes)
      for (const bool front : {false, true}) {
        const auto q = leaf({n, 6, 16}, 4, type), k = leaf({n, 2, 16}, 5, type),
                   v = leaf({n, 2, 10}, 6, type);
        expect_one_answer("chosen", near_of(type), [&] {
          const auto y = attend_chosen(on(q), on(k), front ? Tensor() : on(v), 10, chosen, {}, pass);
          return with_gradients(y, front ? Tensors{q, k} : Tensors{q, k, v}, random({n, 60}, 7));
        });
      }
    const auto q = leaf({n, 3, 6}, 8), k = leaf({n, 1, 6}, 9), weights = leaf({n, 3}, 10);
    const auto attending = random({n, 4, 8}, 11), attended = random({n, 2, 8}, 12);
    expect_one_answer("index loss", 1e-5, [&] {
      const auto loss =
          index_loss(on(q), on(k), on(weights), {on(attending), on(attended), 0.3}, chosen, pass);
      return with_gradients(loss, {q, k, weights}, at::ones({}));
    });
  }
  auto k = at::ones({6, 1, 2});
  k[1].fill_(std::numeric_limits<float>::quiet_NaN());
  Forest forest;
  forest.add_segment(std::vector<int32_t>(6, 1));
  const ComposedScope on(true);
  const auto chosen =
      choose_keys(at::ones({6, 1, 2}), k, at::ones({6, 1}), 3, 0, make_pass(forest, at::kFloat));
  EXPECT_EQ(chosen->rows, (std::vector<int32_t>{0, 0, 1, 0, 1, 2, 0, 2, 3, 0, 2, 3, 0, 2, 3}));  // 1 last
}

TEST(Composed, ChosenKeysOfACache) {
  Forest forest;
  forest.add_segment(std::vector<int32_t>(40, 1));
  const auto q = random({40, 3, 8}, 1), k = random({40, 1, 8}, 2), w = random({40, 3}, 3),
             attended = random({40, 4, 8}, 4);
  for (const auto kind : {KvType::f32, KvType::int8}) {
    std::vector<std::vector<int32_t>> rows;
    expect_one_answer("cache of an indexer", 1e-5, [&]() -> Tensors {
      const at::NoGradGuard no_graph;
      auto pass = make_pass(forest, at::kFloat);
      auto cache = larger_cache({}, 0, 50, {{2, 1, 8, 0, 8}, kind, at::kFloat, place});
      pass.cache = &cache;
      for (int32_t i = 0; i < 40; ++i) pass.cache_rows.push_back(10 + i);
      pass.blocks = {{0, 40, {{10, 50}}}};
      store_index_keys(on(k), 1, pass);
      const auto chosen = choose_keys(on(q), on(k), on(w), 7, 1, pass);
      rows.push_back(chosen->rows);
      return {attend_chosen(on(attended), on(k), {}, 6, chosen, {0, 0, 0, 1}, pass)};
    });
    EXPECT_EQ(rows.at(0), rows.at(1));
    EXPECT_EQ(rows.at(0), rows.at(2));
  }
}

TEST(Composed, RoutesAndExperts) {
  for (const auto type : kTypes)
    for (const bool sigmoid : {false, true})
      for (const bool renormalise : {true, false})
        for (const auto& [groups, best] : {std::pair<int64_t, int64_t>{1, 1}, {4, 2}, {3, 1}, {12, 12}}) {
          const auto x = leaf({31, 10}, 1, type);
          auto logits = random({31, 12}, 2);
          logits.select(1, 3).fill_(-50);  // an expert without tokens
          logits[5].fill_(0.25);           // all alike: the lower numbers
          logits.requires_grad_();
          RouteRule rule{3, renormalise};
          rule.groups = groups, rule.groups_per_token = best;
          if (groups > 1 || sigmoid) rule.scale = 2.5f;
          rule.sigmoid = sigmoid;
          if (sigmoid) rule.bias = 0.4 * random({12}, 3);
          else rule.judged_by = renormalise ? 2 : 1;
          std::vector<std::vector<int32_t>> experts;
          expect_one_answer("experts", near_of(type), [&] {
            const auto routing = route(on(logits), rule);
            experts.push_back(routing.plan->expert);
            Tensors results;
            for (const auto& part : rows_by_expert(on(x), routing))
              results.push_back(weighted_gated(part.x * static_cast<double>(1 + part.expert), part.x,
                                               part.weights, Activation::silu));
            return with_gradients(combine(results, routing), {x, logits}, random({31, 10}, 4));
          });
          EXPECT_EQ(experts.at(0), experts.at(1));
          EXPECT_EQ(experts.at(0), experts.at(2));
        }
}

std::vector<Target> some_targets() {  // row 2 has two labels and one of them twice; unordered on purpose
  return {{4, 7, 0.5f, 0}, {2, 1, 1, 0}, {0, 30, 2, 0}, {2, 5, 0.25f, 1}, {2, 5, 0.5f, 1}};
}

// Frozen, trained, with an adapter, with a bias; more rows than one chunk of logits has.
TEST(Composed, CrossEntropyScoresAndLogits) {
  for (const auto type : kTypes)
    for (const double cap : {0.0, 2.0})
      for (const std::string kind : {"frozen", "trained", "adapter", "blocks", "rows"}) {
        Head head;
        head.soft_cap = cap;
        head.linear.name = "lm_head";
        head.linear.weight = dense_weight(random({31, 32}, 1).requires_grad_(kind == "trained"));
        const auto hidden = leaf({6, 32}, 2, type);
        Tensors inputs{hidden};
        if (kind == "trained") inputs.push_back(head.linear.weight.dense);
        if (kind == "blocks") head.linear.weight = convert_weight(head.linear.weight, WeightType::q8_0);
        if (kind == "rows") {
          head.linear.rows = TrainedRows{{1, 30}, leaf({2, 32}, 9)};
          inputs.push_back(head.linear.rows->values);
        }
        if (kind == "adapter") {
          head.linear.adapter = adapter(31, 32, 3, 0, false);
          inputs.insert(inputs.end(), {head.linear.adapter->a, head.linear.adapter->b});
          inputs.push_back(head.linear.bias = leaf({31}, 6));
        }
        const auto targets = some_targets();
        const auto near = type == at::kFloat ? 1e-5 : 2e-2;
        expect_one_answer(kind, near, [&] {
          return with_gradients(cross_entropy(on(hidden), targets, head, Pass{}).nats, inputs,
                                at::scalar_tensor(0.5));
        });
        expect_one_answer(kind, near, [&]() -> Tensors {
          const auto scores = score_targets(on(hidden), targets, head, Pass{});
          Tensors all{scores.log_probabilities, logits(on(hidden), std::vector<int32_t>{3, 1}, head, Pass{})};
          if (type == at::kFloat) all.push_back(scores.argmax + 1);  // roundings to bf16 are equal at times
          return all;
        });
      }
  Head head;  // of several chunks
  head.linear.weight = dense_weight(random({70, 8}, 1));
  std::vector<Target> targets;
  for (int32_t i = 0; i < 5000; ++i) targets.push_back({i, i % 70, 0.5f + static_cast<float>(i % 3), 0});
  const auto hidden = leaf({5000, 8}, 2);
  expect_one_answer("chunks", 1e-5, [&] {
    return with_gradients(cross_entropy(on(hidden), targets, head, Pass{}).nats, {hidden}, at::ones({}));
  });
}

TEST(Composed, LossesOverLogitsAndIds) {
  const std::vector<int32_t> asked{4, 1, 3, 0};
  const IdRows of_ids{asked, {0, 5, 20, 3, 3, 4, 20}, {0, 3, 4, 7, 7}};
  for (const auto type : kTypes)
    for (const double cap : {0.0, 2.5})
      for (const bool trained : {false, true}) {
        const auto hidden = leaf({6, 16}, 1, type), w = random({24, 16}, 2).requires_grad_(trained);
        const Head head{Linear{"lm_head", dense_weight(w), {}, {}, {}, {}}, cap};
        const Tensors inputs = trained ? Tensors{hidden, w} : Tensors{hidden};
        const auto p = random({4, 21}, 9).softmax(-1);
        const auto near = type == at::kFloat ? 1e-5 : 2e-2;
        expect_one_answer("logits", near, [&] {
          const auto loss =
              loss_over_logits(on(hidden), asked, {head, 21}, Pass{}, [&](LogitRows& chunk, bool gradient) {
                EXPECT_EQ(chunk.logits.size(1), 21);
                const auto target = p.narrow(0, static_cast<int64_t>(chunk.first), chunk.logits.size(0));
                const auto log_q = chunk.logits.log_softmax(-1);
                if (gradient) chunk.logits.copy_(log_q.exp() - target);
                return -(target * log_q).sum().item<double>();
              });
          return with_gradients(loss, inputs, at::scalar_tensor(0.5));
        });
        for (const double temperature : {1.0, 2.0}) {
          auto rows = of_ids;
          rows.temperature = temperature;
          expect_one_answer("ids", near, [&] {
            const auto loss =
                loss_over_ids(on(hidden), rows, {head, 21}, Pass{},
                              [&](size_t row, std::span<const float> log_q, std::span<float> corrections) {
                                IdLoss cost;
                                for (size_t i = 0; i < log_q.size(); ++i) {
                                  const float weight = 0.25f * static_cast<float>(row + i + 1);
                                  cost.nats -= static_cast<double>(weight) * static_cast<double>(log_q[i]);
                                  cost.softmax += static_cast<double>(weight);
                                  corrections[i] = -weight;
                                }
                                return cost;
                              });
            return with_gradients(loss, inputs, at::scalar_tensor(0.5));
          });
        }
      }
}

// One form alone, of LibTorch calls: what stands around it may be in either.
TEST(Composed, EmbeddingKeptRowsAndRecomputation) {
  auto pass = make_pass(branches(9), at::kFloat);
  const auto tokens = pass.tokens;
  pass.training = true, pass.embedding_noise = 5;
  pass.rows = at::tensor({2, 3, 40}, at::TensorOptions(at::kLong));
  const auto [low, high] = std::minmax({tokens[2].item<int64_t>(), tokens[40].item<int64_t>()});
  ASSERT_LT(low, high);  // of rows that are kept, so that both have a gradient
  for (const bool recomputed : {false, true}) {
    Linear table, layer;
    table.name = "embed", layer.name = "proj";
    table.weight = dense_weight(leaf({29, 16}, 1));
    table.adapter = LowRank{leaf({4, 16}, 2), leaf({29, 4}, 3), {}, 0.5, 0};
    layer.weight = dense_weight(random({16, 16}, 4));
    layer.adapter = adapter(16, 16, 5, 0.25, false);
    table.rows = TrainedRows{{low, high}, leaf({2, 16}, 8)};
    const Tensors trained{layer.adapter->a, layer.adapter->b};
    Tensors inputs{table.weight.dense, table.adapter->a, table.adapter->b, table.rows->values};
    inputs.insert(inputs.end(), trained.begin(), trained.end());
    expect_one_answer("embedding", 1e-5, [&] {
      pass.tokens = on(tokens);
      const auto part = [&](const Tensor& x, Wanted wanted) { return linear(x, layer, pass, wanted); };
      const auto x = embed(table, pass, 4);
      const auto y = keep_rows(recomputed ? recompute(x, trained, part) : part(x, Wanted::value), pass);
      return with_gradients(y, inputs, random({3, 16}, 7));
    });
  }
}

// With kernels for the device: the same bits as the CPU decodes, of the whole and of some rows.
void expect_decoded_there(const Weight& weight) {
  for (const auto type : {at::kBFloat16, at::kFloat})
    for (const auto& [first, count] :
         {std::pair<int64_t, int64_t>(0, weight.rows), std::pair<int64_t, int64_t>(3, 5)}) {
      const auto here = at::zeros({1}, at::TensorOptions(type)), there = here.to(pretend::kDevice);
      const auto before = pretend::kernel_calls;
      const auto decoded = widened_on(there, weight, first, count);
      EXPECT_EQ(pretend::kernel_calls, before + 1) << type_info(weight.type).name;
      EXPECT_EQ(decoded.device(), pretend::kDevice);
      EXPECT_TRUE(at::equal(decoded.cpu(), widened_on(here, weight, first, count)))
          << type_info(weight.type).name << " " << type << " from row " << first;
    }
}

TEST(DeviceKernels, DecodeWhatIsStoredToTheBitsOfTheCpu) {
  const pretend::PretendedKernels kernels;
  const auto matrix = random({12, 512}, 1);
  int types = 0;
  for (const auto& info : all_types()) {
    if (!is_block_quantized(info.type) || !can_quantize(info.type)) continue;
    ++types;
    expect_decoded_there(convert_weight(dense_weight(matrix), info.type));
  }
  EXPECT_EQ(types, 14);
  auto codes = std::make_shared<std::vector<std::byte>>(12 * 96);
  for (size_t i = 0; i < codes->size(); ++i) (*codes)[i] = static_cast<std::byte>(i * 37 % 126);  // no NaN
  expect_decoded_there(scaled_f8_weight(12, 96, *codes, codes, random({3, 2}, 2), 5, 64));
  CodeScales scales;
  scales.scales = random({12, 6}, 3), scales.zeros = at::full({12, 6}, 7, at::TensorOptions(at::kByte));
  scales.groups = 6, scales.group_columns = 32, scales.high_first = true;
  expect_decoded_there(packed4_weight(12, 192, *codes, codes, scales));
}

TEST(DeviceKernels, ALayerIsTheSameWithAndWithoutThem) {
  Linear layer;
  layer.name = "proj";
  layer.weight = convert_weight(dense_weight(random({32, 64}, 1)), WeightType::nf4);
  layer.adapter = LowRank{random({8, 64}, 2), random({32, 8}, 3), {}, 2, 0.3};
  Pass pass;
  pass.training = true, pass.dropout_key = 11;
  for (const auto type : kTypes) {
    const auto by_layer = [&] {
      const auto x = random({9, 64}, 4).to(type).to(pretend::kDevice).requires_grad_();
      const auto y = linear(x, layer, pass);
      const auto dx = torch::autograd::grad({y}, {x}, {at::ones_like(y)})[0];
      return std::pair(y.detach().cpu(), dx.cpu());
    };
    const auto before = pretend::kernel_calls;
    const auto [y, dx] = by_layer();
    EXPECT_EQ(pretend::kernel_calls, before) << "there are none";
    const pretend::PretendedKernels kernels;
    const auto [y_by_kernels, dx_by_kernels] = by_layer();
    EXPECT_EQ(pretend::kernel_calls, before + 4) << "the matrix twice, dropout twice";
    EXPECT_TRUE(at::equal(y_by_kernels, y)) << type;
    EXPECT_TRUE(at::equal(dx_by_kernels, dx)) << type;
  }
}

TEST(DeviceKernels, TheHeadsLossIsThatOfTheCpu) {
  const pretend::PretendedKernels kernels;
  for (const int64_t vocabulary : {31, 32}) {
    Head head;
    head.linear.name = "lm_head";
    head.linear.weight = convert_weight(dense_weight(random({vocabulary, 32}, 1)), WeightType::q8_0);
    const auto hidden = leaf({6, 32}, 2);
    auto targets = some_targets();
    for (auto& target : targets) target.label %= static_cast<int32_t>(vocabulary);
    const auto before = pretend::kernel_calls;
    expect_one_answer("cross-entropy", 1e-5, [&] {
      return with_gradients(cross_entropy(on(hidden), targets, head, Pass{}).nats, {hidden},
                            at::scalar_tensor(0.5));
    });
    EXPECT_EQ(pretend::kernel_calls, before + 3) << "the matrix twice, the softmax";
  }
}

TEST(DeviceKernels, GatedActivationsAreThoseOfTheCpu) {
  const pretend::PretendedKernels kernels;
  for (const auto type : kTypes)
    for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
      const auto gate = leaf({9, 19}, 1, type), up = leaf({9, 19}, 2, type);
      const auto before = pretend::kernel_calls;
      expect_one_answer("gated", near_of(type), [&] {
        return with_gradients(gated(on(gate), on(up), activation), {gate, up}, random({9, 19}, 4));
      });
      EXPECT_EQ(pretend::kernel_calls, before + 2);
    }
}

TEST(DeviceKernels, NormsAreThoseOfTheCpu) {
  const pretend::PretendedKernels kernels;
  const Norm norm{random({kShortestNorm}, 2), 1e-5, 1, {}};
  const auto dy = random({3, kShortestNorm}, 3), dsum = random({3, kShortestNorm}, 6);
  for (const auto type : kTypes) {
    const auto x = leaf({3, kShortestNorm}, 1, type), delta = leaf({3, kShortestNorm}, 4, type);
    const auto before = pretend::kernel_calls;
    expect_one_answer("norm", near_of(type), [&] { return with_gradients(rms_norm(on(x), norm), {x}, dy); });
    EXPECT_EQ(pretend::kernel_calls, before + 2);
    expect_one_answer("sum and norm", near_of(type), [&] {
      const auto [sum, normed] = add_rms_norm(on(x), on(delta), norm);
      auto all = torch::autograd::grad({sum, normed}, {x, delta}, {on(dsum.to(type)), on(dy.to(type))});
      all.push_back(sum.detach()), all.push_back(normed.detach());
      return all;
    });
    EXPECT_EQ(pretend::kernel_calls, before + 4);
  }
}

TEST(DeviceKernels, RotationsAreThoseOfTheCpu) {
  const pretend::PretendedKernels kernels;
  const auto positions = at::tensor({4, 0, 19, 7}, at::TensorOptions(at::kLong));
  for (const int64_t half : {3, 8}) {
    const auto table = some_rotary_table(half);
    for (const auto type : kTypes)
      for (const auto& part : {RotatedPart{0, false}, {8, true}, {8, false}}) {
        const auto x = leaf({4, 2, half == 8 ? 32 : 17}, 5, type);
        const auto dy = random({4, 2, x.size(2)}, 6);
        const auto before = pretend::kernel_calls;
        expect_one_answer("rotation", near_of(type),
                          [&] { return with_gradients(rotate(on(x), positions, table, part), {x}, dy); });
        EXPECT_EQ(pretend::kernel_calls, before + 2);
        EXPECT_EQ(table->there.device(), pretend::kDevice) << "stays there for the next call";
      }
  }
}

// Experts that double and so on: no arithmetic that rounds otherwise on another device, so that bits are
// equal.
TEST(DeviceKernels, TokensGoToExpertsAndBackToTheBitsOfTheCpu) {
  const pretend::PretendedKernels kernels;
  auto choices = random({31, 12}, 2);
  choices.select(1, 3).fill_(-50);  // an expert without tokens
  for (const auto type : kTypes)
    for (const int64_t width : {10, 16}) {
      const auto x = leaf({31, width}, 1, type);
      const auto dy = random({31, width}, 4).to(type);
      const auto by = [&](at::Device device) {
        auto routing = route(choices.to(device), RouteRule{3, true});
        Tensors results;
        for (const auto& part : rows_by_expert(x.to(device), routing)) {
          EXPECT_FALSE(part.x.is_view());
          const auto result = part.x * std::ldexp(1.0, static_cast<int>(part.expert % 4));
          results.push_back(part.expert == 5 ? result.detach() : result);  // one that gives no gradient
        }
        const auto y = combine(results, routing);
        const auto dx = torch::autograd::grad({y}, {x}, {dy.to(device)})[0];
        return std::pair(y.detach().cpu(), dx);
      };
      const auto before = pretend::kernel_calls;
      const auto [y, dx] = by(at::kCPU);
      EXPECT_EQ(pretend::kernel_calls, before);
      const auto [y_there, dx_there] = by(pretend::kDevice);
      EXPECT_EQ(pretend::kernel_calls, before + 5) << "sort; to the experts and back, twice";
      EXPECT_TRUE(at::equal(y_there, y)) << type << " " << width;
      EXPECT_TRUE(at::equal(dx_there, dx)) << type << " " << width;
    }
}

}  // namespace
}  // namespace retort
