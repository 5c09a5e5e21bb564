#include "train/batches.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace retort {
namespace {

std::vector<Sample> samples_of(const std::vector<int>& lengths) {
  std::vector<Sample> samples;
  for (const int length : lengths)
    samples.push_back({std::vector<int32_t>(static_cast<size_t>(length), 1),
                       std::vector<float>(static_cast<size_t>(length), 1), ""});
  return samples;
}

std::vector<int64_t> epoch_order(Batches& batches, int64_t epoch) {
  std::vector<int64_t> order;
  for (Batches::Place place{epoch, 0}; place.epoch == epoch;)
    for (const auto index : batches.take(place)) order.push_back(index);
  return order;
}

std::vector<int64_t> sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

TEST(Batches, EveryEpochHasEachSampleOnceInAnOrderOfItsOwn) {
  const auto samples = samples_of(std::vector<int>(23, 5));
  Batches batches(samples, {.samples = 4}, 7);
  std::vector<int64_t> all(23);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  const auto first = epoch_order(batches, 0), second = epoch_order(batches, 1);
  EXPECT_EQ(sorted(first), all);
  EXPECT_EQ(sorted(second), all);
  EXPECT_NE(first, second);
  EXPECT_EQ(epoch_order(batches, 0), first);  // whatever was asked in between
  Batches other(samples, {.samples = 4}, 8);
  EXPECT_NE(epoch_order(other, 0), first);
}

TEST(Batches, TheLastStepOfAnEpochTakesWhatIsLeft) {
  const auto samples = samples_of(std::vector<int>(10, 5));
  Batches batches(samples, {.samples = 4}, 7);
  EXPECT_EQ(batches.steps(3), 9);
  Batches::Place place;
  std::vector<size_t> sizes;
  for (int i = 0; i < 6; ++i) sizes.push_back(batches.take(place).size());
  EXPECT_EQ(sizes, (std::vector<size_t>{4, 4, 2, 4, 4, 2}));
  EXPECT_EQ(place, (Batches::Place{2, 0}));
}

TEST(Batches, AnEpochThatIsBegunEndsAtAWholeStep) {
  const auto samples = samples_of(std::vector<int>(40, 5));
  Batches batches(samples, {.samples = 4}, 7);  // 10 steps an epoch
  const std::pair<double, int64_t> counts[] = {{2.5, 25}, {1.1, 11},  {2.3, 23},
                                               {0.25, 3}, {0.001, 1}, {2, 20}};
  for (const auto& [epochs, steps] : counts) EXPECT_EQ(batches.steps(epochs), steps) << epochs;

  // Cut by tokens: the last epoch's own steps are counted.
  const auto mixed = samples_of({10, 10, 10, 10, 10, 10, 90});
  Batches by_tokens(mixed, {.samples = 3, .tokens = 25}, 7);
  Batches::Place place{1, 0};
  int64_t second = 0;
  for (; place.epoch == 1; ++second) by_tokens.take(place);
  EXPECT_EQ(by_tokens.steps(1.5), by_tokens.steps(1) + (second + 1) / 2);
}

TEST(Batches, StepsAreCutByTokensToo) {
  const auto samples = samples_of({10, 10, 10, 10, 10, 10, 90});
  Batches batches(samples, {.samples = 3, .tokens = 25}, 7);
  int64_t steps = 0;
  std::vector<int64_t> seen;
  for (Batches::Place place; place.epoch < 2; ++steps) {
    const auto chosen = batches.take(place);
    ASSERT_FALSE(chosen.empty());
    int64_t tokens = 0;
    for (const auto index : chosen)
      tokens += static_cast<int64_t>(samples[static_cast<size_t>(index)].tokens.size());
    EXPECT_TRUE(tokens <= 25 || chosen.size() == 1) << tokens;  // the sample of 90 has a step of its own
    seen.insert(seen.end(), chosen.begin(), chosen.end());
  }
  EXPECT_EQ(seen.size(), 14u);
  EXPECT_EQ(batches.steps(2), steps);
}

TEST(Batches, SamplesThatBeginAlikeAreTakenTogether) {
  std::vector<Sample> samples;
  for (int question = 0; question < 3; ++question)  // three questions about each of five documents
    for (int document = 0; document < 5; ++document)
      samples.push_back({{document, 7, 7, question, 9}, {0, 0, 0, 0, 1}, ""});
  samples.push_back({{0, 7}, {0, 1}, ""});  // too short to belong to the first
  Batches alone(samples, {.samples = 3}, 7), together(samples, {.samples = 3, .together = 3}, 7);
  const auto order = epoch_order(together, 0);
  EXPECT_EQ(sorted(order), sorted(epoch_order(alone, 0)));
  EXPECT_NE(order, epoch_order(together, 1));
  const auto changes = [&](const std::vector<int64_t>& indices) {
    int64_t count = 0;
    for (size_t i = 1; i < indices.size(); ++i) {
      const auto& [a, b] = std::pair(samples[static_cast<size_t>(indices[i - 1])].tokens,
                                     samples[static_cast<size_t>(indices[i])].tokens);
      count += a[0] != b[0] || a.size() != b.size();
    }
    return count;
  };
  EXPECT_EQ(changes(order), 5);  // six groups
  EXPECT_GT(changes(epoch_order(alone, 0)), 5);
}

TEST(Batches, SamplesWithoutASupervisedTokenTakeNoPart) {
  auto samples = samples_of({5, 5, 5});
  samples[1].weights = {1, 0, 0, 0, 0};  // nothing predicts the first token
  Batches batches(samples, {.samples = 8}, 7);
  Batches::Place place;
  EXPECT_EQ(sorted(batches.take(place)), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(batches.unsupervised(), (std::vector<int64_t>{1}));
  samples[0].weights = samples[2].weights = samples[1].weights;
  EXPECT_THROW(Batches(samples, {.samples = 8}, 7), std::runtime_error);
}

}  // namespace retort
