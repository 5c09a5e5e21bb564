#include "run/rank_memory.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "where.h"  // tests

namespace retort {
namespace {

// Ranks 0 and 1 on one machine, 2 on another.
class TwoMachines final : public Peers {
 public:
  int64_t rank() const override { return 0; }
  int64_t count() const override { return 3; }
  std::string name(int64_t rank) const override {
    return fmt::format("rank {} on {}", rank, rank < 2 ? "node-a" : "node-b");
  }
  int64_t first_on_machine(int64_t rank) const override { return rank < 2 ? 0 : 2; }
  void send(int64_t, std::span<const std::byte>) override {}
  void receive(int64_t, std::span<std::byte>) override {}
};

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Holds 100 MiB of its own and 400 of files where 600 more are left.
RankMemory rank_that_needs(uint64_t mib, uint64_t shared_mib) {
  return {.needs = mib * kMiB,
          .shared = shared_mib * kMiB,
          .holds = 100 * kMiB,
          .holds_of_files = 400 * kMiB,
          .room = 600 * kMiB,
          .bound_by = "MemAvailable"};
}

std::string refusal(const std::vector<RankMemory>& all) {
  try {
    require_memory_of_machines(TwoMachines(), all);
  } catch (const Failure& failure) { return failure.what(); }
  return "";
}

LoadedModel tiny_model(const std::string& weights) {
  return load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string(),
                       .weights = weights});
}

}  // namespace

// Two ranks of node-a: 600 MiB are left, 2 x 100 are their own, 400 are pages of the base's file: 1200.
TEST(RankMemory, RanksOfAMachineDivideWhatItHasAndShareTheBase) {
  EXPECT_EQ(refusal({rank_that_needs(800, 400), rank_that_needs(800, 400), rank_that_needs(1100, 400)}), "");
  const auto line = refusal({rank_that_needs(801, 400), rank_that_needs(800, 400), rank_that_needs(1, 0)});
  EXPECT_TRUE(line.starts_with("rank 0 on node-a and 1 more rank there together need about ")) << line;
  EXPECT_NE(line.find(bytes(1201 * kMiB) + " of memory ("), std::string::npos) << line;
  EXPECT_NE(line.find("MemAvailable leaves"), std::string::npos) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
  // Not shared, the same ranks need too much.
  EXPECT_NE(refusal({rank_that_needs(800, 0), rank_that_needs(800, 0), rank_that_needs(1, 0)}), "");
  EXPECT_TRUE(refusal({rank_that_needs(1, 0), rank_that_needs(1, 0), rank_that_needs(1101, 0)})
                  .starts_with("rank 2 on node-b needs about "));
}

TEST(RankMemory, MatricesThatAreCopiesAreNotShared) {
  const auto views = tiny_model("keep"), copies = tiny_model("int8");
  EXPECT_GT(mapped_bytes(*views.model), 0u);
  EXPECT_LT(mapped_bytes(*copies.model), mapped_bytes(*views.model));
  auto& first = *views.model->linears().front();
  ASSERT_TRUE(first.weight.dense.defined());
  const auto before = mapped_bytes(*views.model), size = first.weight.dense.nbytes();
  first.weight.dense = first.weight.dense.clone();
  EXPECT_EQ(mapped_bytes(*views.model), before - size);
}

// A teacher whose matrices are pages of its file is there once for all ranks of a machine, as the base is.
TEST(RankMemory, ATeachersPagesAreShared) {
  const auto model = tiny_model("int8");
  const auto pages = mapped_bytes(*model.model);  // norms' and the embedding's alone
  MemoryPrediction need{.program = 100 * kMiB, .weights = pages + 10 * kMiB, .passes = 20 * kMiB};
  need.teacher = 50 * kMiB, need.teacher_mapped = 48 * kMiB, need.teacher_stays = true;
  const auto stays = memory_of_rank(need, 7, *model.model);
  EXPECT_EQ(stays.needs, pages + 180 * kMiB + 7);
  EXPECT_EQ(stays.shared, pages + 48 * kMiB);
  // Asked before training, its 2 MiB besides are less than what training takes.
  need.teacher_stays = false;
  const auto before = memory_of_rank(need, 0, *model.model);
  EXPECT_EQ(before.needs, pages + 160 * kMiB);
  EXPECT_EQ(before.needs - before.shared, 130 * kMiB);
}

}  // namespace retort
