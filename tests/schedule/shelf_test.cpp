// Numbers that wait on a shelf are the same numbers, wherever it is, and take no memory while they wait.
#include "schedule/shelf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "ops/new_tensors.h"
#include "ops/workers.h"

namespace retort {
namespace {

// Bytes of this process's memory that files lie in.
int64_t resident_of_files() {
  std::ifstream status("/proc/self/status");
  int64_t sum = 0;
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssFile:") || line.starts_with("RssShmem:"))
      sum += std::stoll(line.substr(9)) << 10;
  return sum;
}

TEST(Shelf, GivesBackWhatWasPut) {
  const TemporaryFolder folder;
  for (const auto& place : {std::string(), folder / "made/scratch"}) {
    Shelf shelf(place);
    std::vector<Tensor> values, waiting;
    for (int64_t i = 0; i < 40; ++i) {
      values.push_back(at::randn({3 + i, 77}, at::TensorOptions(i % 2 ? at::kFloat : at::kBFloat16)));
      waiting.push_back(shelf.put(values.back()));
      if (i % 3 == 0) waiting[static_cast<size_t>(i) / 2] = shelf.put(values[static_cast<size_t>(i) / 2]);
    }
    auto sums = shelf.zeros({5, 9}, at::kFloat);
    sums.add_(1);
    shelf.rest(sums);
    sums.add_(1);
    EXPECT_TRUE(at::equal(sums, at::full({5, 9}, 2.0f)));
    for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(at::equal(waiting[i], values[i])) << i;
    EXPECT_FALSE(shelf.put(Tensor()).defined());
    EXPECT_EQ(shelf.put(at::empty({0, 4})).size(1), 4);
    const auto elsewhere = at::ones({2000});
    shelf.rest(elsewhere);
    EXPECT_TRUE(at::equal(elsewhere, at::ones({2000})));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder / "made/scratch"));
}

TEST(Shelf, ThreadsDoNotMeet) {
  const TemporaryFolder folder;
  Shelf shelf(folder / "scratch");
  run_workers(4, 200, [&](int64_t i) {
    const auto value = at::full({1 + i % 7, 1000}, static_cast<double>(i));
    std::vector<Tensor> waiting;
    for (int k = 0; k < 5; ++k) waiting.push_back(shelf.put(value + k));
    for (int k = 0; k < 5; ++k) EXPECT_TRUE(at::equal(waiting[static_cast<size_t>(k)], value + k)) << i;
  });
}

TEST(Shelf, WhatWaitsTakesNoMemory) {
  const TemporaryFolder folder;
  Shelf shelf(folder / "scratch");
  const auto before = resident_of_files();
  std::vector<Tensor> waiting;
  for (int i = 0; i < 12; ++i) waiting.push_back(shelf.put(at::full({4 << 20}, static_cast<double>(i))));
  EXPECT_LT(resident_of_files() - before, 32 << 20);  // of 192 MiB
  for (int i = 0; i < 12; ++i) EXPECT_EQ(waiting[static_cast<size_t>(i)][i].item<float>(), i);
}

// What is made while it holds lies in the file as far as it is still there, and takes no memory.
TEST(Shelf, HoldsWhatIsMadeMeanwhile) {
  constexpr int64_t kNumbers = 1 << 20;
  const TemporaryFolder folder;
  Shelf shelf(folder / "scratch");
  std::vector<Tensor> made;
  const auto before = resident_of_files();
  const auto places = shelf.hold([&] {
    for (int i = 0; i < 6; ++i) {
      made.push_back(at::full({kNumbers}, static_cast<double>(i)) + 1);  // the sum stays, what it is of goes
      const NewTensors in_memory;
      made.push_back(at::full({kNumbers}, -1.0));
    }
  });
  EXPECT_LT(resident_of_files() - before, 4 << 20);  // of 24 MiB
  const auto within = [](const Tensor& value, const Shelf::Places& where) {
    const auto* const begin = static_cast<const std::byte*>(value.const_data_ptr());
    return std::ranges::any_of(
        where, [&](const auto& place) { return begin == place.data() && place.size() == value.nbytes(); });
  };
  EXPECT_EQ(places.size(), 6u);
  shelf.expect(places);
  for (size_t i = 0; i < made.size(); ++i) {
    EXPECT_EQ(within(made[i], places), i % 2 == 0) << i;
    const auto number = i % 2 == 0 ? static_cast<float>(i / 2 + 1) : -1.0f;
    EXPECT_TRUE(at::equal(made[i], at::full({kNumbers}, number))) << i;
  }
  const auto* const place = static_cast<const std::byte*>(made[0].const_data_ptr()) - 4 * kNumbers;
  made.clear();
  EXPECT_EQ(shelf.put(at::ones({kNumbers})).const_data_ptr(), place);  // the first: of a sum's first operand
  bool ran = false;
  EXPECT_TRUE(Shelf().hold([&] { ran = at::ones({kNumbers}).numel() > 0; }).empty());
  EXPECT_TRUE(ran);
}

TEST(Shelf, ThreadsHoldWhatIsTheirs) {
  const TemporaryFolder folder;
  Shelf shelf(folder / "scratch");
  run_workers(4, 100, [&](int64_t i) {
    std::vector<Tensor> made;
    shelf.hold([&] {
      for (int k = 0; k < 5; ++k) made.push_back(at::full({1 + i % 7, 2000}, static_cast<double>(i)) + k);
    });
    for (int k = 0; k < 5; ++k)
      EXPECT_TRUE(
          at::equal(made[static_cast<size_t>(k)], at::full({1 + i % 7, 2000}, static_cast<double>(i + k))))
          << i;
  });
}

// A tensor outlives the shelf; its place is used again once it is gone.
TEST(Shelf, PlacesAreUsedAgain) {
  const TemporaryFolder folder;
  Tensor last;
  {
    Shelf shelf(folder / "scratch");
    const auto first = shelf.put(at::ones({1000}));
    const auto* place = first.data_ptr();
    for (int i = 0; i < 3; ++i) last = shelf.put(at::full({1000}, static_cast<double>(i)));
    last = Tensor();
    for (int i = 0; i < 100; ++i) last = shelf.put(at::full({1000}, static_cast<double>(i)));
    EXPECT_LT(std::abs(static_cast<const std::byte*>(last.data_ptr()) - static_cast<const std::byte*>(place)),
              5 * 4096);
  }
  EXPECT_EQ(last[5].item<float>(), 99);
}

TEST(Shelf, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  folder.write("file", "");
  try {
    const Shelf shelf(folder / "file/scratch");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(folder / "file"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace retort
