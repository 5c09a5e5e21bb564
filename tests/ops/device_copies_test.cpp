// What stays on a device that LibTorch takes for another (tests/ops/pretend_device.h): it travels once, gives
// the numbers of what travels each time, goes with its weight, and is never served for another.
#include "ops/device_copies.h"

#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "ops/composed.h"
#include "ops/embed.h"
#include "ops/head.h"
#include "ops/norm.h"
#include "ops/pretend_device.h"   // tests/ops
#include "ops/pretend_kernels.h"  // tests/ops
#include "ops/rotate.h"
#include "ops/route.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

using Tensors = std::vector<Tensor>;

Tensor there(const Tensor& x) { return x.to(pretend::kDevice); }

// Bytes that `work` copies to the device, without lists of numbers of rows.
int64_t copied(const std::function<void()>& work) {
  const auto before = pretend::numbers_copied.load();
  work();
  return pretend::numbers_copied - before;
}

// Room for so many bytes beyond what is held, while it lives.
class RoomFor {
 public:
  explicit RoomFor(uint64_t bytes) { set_device_room(device_room().held + bytes); }
  ~RoomFor() { set_device_room(std::numeric_limits<uint64_t>::max()); }
};

// The layer's result and what goes back through it.
Tensors through(const Linear& layer, const Tensor& x_here) {
  const auto x = there(x_here).requires_grad_();
  const auto y = linear(x, layer, Pass{});
  const auto dx = torch::autograd::grad({y}, {x}, {at::ones_like(y)})[0];
  return {y.detach().cpu(), dx.cpu()};
}

void expect_same_bits(const Tensors& found, const Tensors& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(at::equal(found[i], expected[i])) << "result " << i;
}

Linear layer_of(Weight weight) {
  Linear layer;
  layer.name = "proj";
  layer.weight = std::move(weight);
  return layer;
}
Linear random_layer(uint64_t seed, at::ScalarType type = at::kFloat) {
  return layer_of(dense_weight(random({24, 64}, seed).to(type)));
}

// Matrices [24, 64] in every way of storing them.
std::vector<Linear> layers_of_every_kind() {
  std::vector<Linear> all;
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) all.push_back(random_layer(1, type));
  for (const auto type : {WeightType::nf4, WeightType::q8_0, WeightType::int8_row})
    all.push_back(layer_of(convert_weight(dense_weight(random({24, 64}, 2)), type)));
  const auto codes = std::make_shared<std::vector<std::byte>>(24 * 64);
  for (size_t i = 0; i < codes->size(); ++i) (*codes)[i] = static_cast<std::byte>(i * 37 % 126);
  all.push_back(layer_of(scaled_f8_weight(24, 64, *codes, codes, random({2, 2}, 3), 16, 32)));
  CodeScales scales;
  scales.scales = random({24, 2}, 4), scales.zeros = at::full({24, 2}, 7, at::TensorOptions(at::kByte));
  scales.group_of = at::arange(64, at::TensorOptions(at::kInt)).remainder_(2);
  scales.groups = 2, scales.group_columns = 32;
  all.push_back(layer_of(packed4_weight(24, 64, std::span(*codes).first(24 * 32), codes, scales)));
  return all;
}

void expect_copied_once(at::ScalarType type, bool by_kernels) {
  const auto x = random({5, 64}, 9).to(type);
  const auto of_x = static_cast<int64_t>(x.nbytes());
  for (const auto& layer : layers_of_every_kind()) {
    SCOPED_TRACE(testing::Message() << type_info(layer.weight.type).name << " for " << type
                                    << (by_kernels ? " by kernels" : ""));
    const auto before = device_room();
    const auto& weight = layer.weight;
    const auto computed = static_cast<int64_t>(24 * 64 * x.element_size());
    // Blocks as they are stored where a kernel decodes them; else as they are computed, or narrower.
    const auto kept = !weight.dense.defined() && !by_kernels
                          ? computed
                          : std::min(computed, static_cast<int64_t>(weight.stored_bytes()));
    Tensors travelled;
    {
      const RoomFor nothing(0);
      travelled = through(layer, x);
      const auto each = copied([&] { expect_same_bits(through(layer, x), travelled); }) - of_x;
      EXPECT_EQ(each, 2 * (weight.dense.defined() ? computed : kept)) << "forward and back";
      EXPECT_EQ(device_room().held, before.held);
      EXPECT_EQ(device_room().travelling, before.travelling + static_cast<uint64_t>(kept));
    }
    EXPECT_EQ(copied([&] { expect_same_bits(through(layer, x), travelled); }) - of_x, kept);
    EXPECT_EQ(device_room().held, before.held + static_cast<uint64_t>(kept));
    EXPECT_EQ(device_room().travelling, before.travelling);
    EXPECT_EQ(copied([&] { expect_same_bits(through(layer, x), travelled); }), of_x);
  }
}

}  // namespace

TEST(DeviceCopies, AFrozenMatrixOfAnyKindTravelsOnce) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    expect_copied_once(type, false);
    const pretend::PretendedKernels kernels;
    expect_copied_once(type, true);
  }
}

TEST(DeviceCopies, GoWithTheLastCopyOfTheirWeight) {
  const auto x = random({5, 64}, 9);
  const auto held = device_room().held, taken = pretend::memory().taken();
  const at::NoGradGuard no_graph;
  auto layer = std::make_unique<Linear>(random_layer(1));
  linear(there(x), *layer, Pass{});
  EXPECT_EQ(device_room().held, held + 24 * 64 * 4);
  auto other = std::make_unique<Linear>(*layer);  // a tied head
  EXPECT_EQ(copied([&] { linear(there(x), *other, Pass{}); }), static_cast<int64_t>(x.nbytes()));
  layer.reset();
  EXPECT_EQ(device_room().held, held + 24 * 64 * 4);
  other.reset();
  EXPECT_EQ(device_room().held, held);
  EXPECT_LE(pretend::memory().taken(), taken);
}

TEST(DeviceCopies, WhatFindsNoRoomTravelsUntilThereIsSome) {
  const auto x = random({5, 64}, 9);
  const auto of_x = static_cast<int64_t>(x.nbytes());
  constexpr uint64_t kOne = 24 * 64 * 4;
  auto first = std::make_unique<Linear>(random_layer(1));
  const auto second = random_layer(2);
  const auto before = device_room();
  const RoomFor one(kOne + 100);
  through(*first, x);
  const auto y = through(second, x);
  EXPECT_EQ(device_room().held, before.held + kOne);
  EXPECT_EQ(device_room().travelling, before.travelling + kOne);
  EXPECT_NE(describe(device_room()).find(" found no room and are copied for each use"), std::string::npos);
  EXPECT_EQ(copied([&] { expect_same_bits(through(second, x), y); }), of_x + 2 * static_cast<int64_t>(kOne));
  EXPECT_EQ(copied([&] { through(*first, x); }), of_x);
  first.reset();
  EXPECT_EQ(copied([&] { expect_same_bits(through(second, x), y); }), of_x + static_cast<int64_t>(kOne));
  EXPECT_EQ(device_room().held, before.held + kOne);
  EXPECT_EQ(device_room().travelling, before.travelling);
}

// By hand: a quarter of 80 GiB is 20; of 4 GiB it is less than 2.
TEST(DeviceCopies, RoomIsLeftForPasses) {
  constexpr uint64_t kGib = uint64_t{1} << 30;
  EXPECT_EQ(room_beside_passes(80 * kGib), 60 * kGib);
  EXPECT_EQ(room_beside_passes(4 * kGib), 2 * kGib);
  EXPECT_EQ(room_beside_passes(kGib), uint64_t{0});
}

namespace {

// What a layer reads from its source: one buffer for whatever matrix is there.
class OneBuffer final : public WeightSource {
 public:
  BaseMatrix take(const Linear&) override { return {held_, {}}; }
  void read(const Tensor& matrix) {
    const auto blocks = convert_weight(dense_weight(matrix), WeightType::q8_0);
    std::copy(blocks.blocks.begin(), blocks.blocks.end(), buffer_->begin());
    held_ = block_weight(WeightType::q8_0, 24, 64, *buffer_, buffer_);
  }

 private:
  std::shared_ptr<std::vector<std::byte>> buffer_ =
      std::make_shared<std::vector<std::byte>>(24 * 64 / 32 * 34);
  Weight held_;
};

// The layer on the device gives what the same gives through the composed form of the CPU.
void expect_current(const Linear& layer, const Tensor& x) {
  const ComposedScope scope(true);
  EXPECT_LT(distance(through(layer, x)[0], linear(x, layer, Pass{}).detach().to(at::kDouble)), 1e-6);
}

}  // namespace

TEST(DeviceCopies, AreNeverThoseOfAnotherMatrix) {
  const auto x = random({5, 64}, 9);
  auto layer = random_layer(1);
  layer.bias = random({24}, 2);
  expect_current(layer, x);
  layer.weight = dense_weight(random({24, 64}, 3));  // merged
  layer.bias = random({24}, 4);
  expect_current(layer, x);
  layer.weight.dense.mul_(2), layer.bias.add_(1);  // in place
  expect_current(layer, x);
  layer.weight.dense = random({24, 64}, 5);  // a router, which is listed as a tensor
  expect_current(layer, x);
  const auto wanted = layer.weight.dense.clone();
  layer.weight.dense = wanted.requires_grad_();  // trained from here on
  expect_current(layer, x);
  layer.weight.dense.mutable_data_ptr<float>()[7] += 3;  // by an optimizer
  expect_current(layer, x);

  for (const bool by_kernels : {false, true}) {
    std::optional<pretend::PretendedKernels> kernels;
    if (by_kernels) kernels.emplace();
    auto streamed = random_layer(6);
    const auto source = std::make_shared<OneBuffer>();
    streamed.source = source;
    for (const uint64_t seed : {7, 8, 9}) {
      source->read(random({24, 64}, seed));  // at the address of the one before, which was let go
      expect_current(streamed, x);
    }
    auto cut = layer_of(source->take(streamed).weight);
    expect_current(cut, x);
    cut.weight.rows = 12, cut.weight.blocks = cut.weight.blocks.first(cut.weight.blocks.size() / 2);
    expect_current(cut, x);
  }
}

TEST(DeviceCopies, WhatIsTrainedStaysWhileNothingChangesIt) {
  const auto x = random({5, 64}, 9);
  const auto of_x = static_cast<int64_t>(x.nbytes());
  auto layer = random_layer(1);
  layer.adapter = LowRank{random({4, 64}, 2).requires_grad_(), random({24, 4}, 3).requires_grad_(),
                          random({24}, 5).abs().requires_grad_(), 0.5, 0};
  const Tensors leaves{layer.adapter->a, layer.adapter->b, layer.adapter->magnitude};
  const auto all = [&] {
    const auto y = linear(there(x), layer, Pass{});
    auto results = torch::autograd::grad({y}, leaves, {at::ones_like(y)});
    for (const auto& gradient : results) EXPECT_TRUE(gradient.is_cpu());
    results.push_back(y.detach().cpu());
    return results;
  };
  const auto travelled = all();
  const auto of_leaves = copied([&] { all(); }) - of_x;
  EXPECT_GT(of_leaves, 0);
  const auto held = device_room().held;
  {
    const UnchangedScope step;
    const UnchangedScope inside;
    const auto first = copied([&] { expect_same_bits(all(), travelled); }) - of_x;
    EXPECT_GT(first, 0);
    EXPECT_LE(first, of_leaves);
    EXPECT_EQ(copied([&] { expect_same_bits(all(), travelled); }), of_x);
    EXPECT_GT(device_room().held, held);
  }
  EXPECT_EQ(device_room().held, held);
  layer.adapter->b.mutable_data_ptr<float>()[5] += 2;  // as an optimizer does, unseen by LibTorch
  const auto changed = all();
  EXPECT_FALSE(at::equal(changed.back(), travelled.back()));
  const UnchangedScope next_step;
  expect_same_bits(all(), changed);
}

TEST(DeviceCopies, NormsBiasesRoutersHeadsAndEmbeddingsStay) {
  const pretend::PretendedKernels kernels;
  const Norm narrow{random({64}, 1), 1e-5, 1, {}}, wide{random({kShortestNorm}, 2), 1e-5, 1, {}};
  auto layer = random_layer(3);
  layer.bias = random({24}, 4);
  RouteRule rule{2, true};
  rule.sigmoid = true, rule.bias = random({8}, 5);
  Head head;
  head.linear = layer_of(dense_weight(random({31, 64}, 6)));
  auto table = layer_of(dense_weight(random({31, 64}, 7)));
  Pass pass;
  pass.tokens = there(at::tensor({3, 30, 3}, at::TensorOptions(at::kLong)));
  const auto x = there(random({3, 64}, 8)), long_x = there(random({3, kShortestNorm}, 9)),
             scores = there(random({3, 8}, 10));
  const auto all = [&] {
    Tensors results{rms_norm(x, narrow),
                    rms_norm(long_x, wide),
                    linear(x, layer, Pass{}),
                    route(scores, rule).weights,
                    logits(x, std::vector<int32_t>{0, 2}, head, Pass{}),
                    embed(table, pass, 1)};
    for (auto& result : results) result = result.cpu();
    return results;
  };
  Tensors travelled;
  {
    const RoomFor nothing(0);
    travelled = all();
  }
  EXPECT_GT(copied([&] { expect_same_bits(all(), travelled); }), 0);
  EXPECT_EQ(copied([&] { expect_same_bits(all(), travelled); }), 0);
}

// Its rows are all that a pass needs of it, so that others go first.
TEST(DeviceCopies, TheEmbeddingAsksForRoomInTheSecondPass) {
  const auto table = layer_of(dense_weight(random({31, 64}, 7)));
  Pass pass;
  pass.tokens = there(at::tensor({3, 30, 3}, at::TensorOptions(at::kLong)));
  const auto rows = embed(table, pass, 1).cpu();
  EXPECT_EQ(copied([&] { expect_same_bits({embed(table, pass, 1).cpu()}, {rows}); }), 31 * 64 * 4);
  EXPECT_EQ(copied([&] { expect_same_bits({embed(table, pass, 1).cpu()}, {rows}); }), 0);
  const auto tied = layer_of(dense_weight(random({31, 64}, 8)));
  EXPECT_EQ(copied([&] { embed(tied, pass, 1); }), 3 * 64 * 4);
  Head head;
  head.linear = tied;
  const auto x = there(random({3, 64}, 8));
  EXPECT_EQ(copied([&] { logits(x, std::vector<int32_t>{1}, head, Pass{}); }), 31 * 64 * 4);
  EXPECT_EQ(copied([&] { embed(tied, pass, 1); }), 0);
}

TEST(DeviceCopies, PositionsTravelOnceAPass) {
  RotaryTable angles;
  angles.positions = 9, angles.half = 4;
  for (int i = 0; i < 36; ++i)
    angles.cosine.push_back(std::cos(static_cast<float>(i))),
        angles.sine.push_back(std::sin(static_cast<float>(i)));
  const auto of_cpu = std::make_shared<const RotaryTable>(angles);
  const auto table = std::make_shared<const RotaryTable>(std::move(angles));
  const auto x = random({3, 2, 8}, 1);
  const auto lists = [](const std::function<void()>& work) {
    const auto before = pretend::lists_copied.load();
    work();
    return pretend::lists_copied - before;
  };
  for (const bool by_kernels : {false, true}) {
    std::optional<pretend::PretendedKernels> kernels;
    if (by_kernels) kernels.emplace();
    auto positions = at::tensor({4, 0, 7}, at::TensorOptions(at::kLong));
    const auto expect_turned = [&] {
      const auto turned = rotate(there(x), positions, table).cpu();
      EXPECT_LT(distance(turned, rotate(x, positions, of_cpu).to(at::kDouble)), 1e-6);
    };
    EXPECT_EQ(lists(expect_turned), 24);
    EXPECT_EQ(lists(expect_turned), 0) << "the next layer of the pass";
    positions.add_(1);
    EXPECT_EQ(lists(expect_turned), 24) << "behind a common beginning";
    positions = at::tensor({1, 2, 3}, at::TensorOptions(at::kLong));
    EXPECT_EQ(lists(expect_turned), 24) << "another pass";
  }
}

}  // namespace retort
