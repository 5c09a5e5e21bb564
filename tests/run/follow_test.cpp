// What a rank other than 0 leaves behind.
#include "run/follow.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/locked_folder.h"
#include "data/temporary_folder.h"  // tests/data
#include "run/run_folder.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

// Rank 1 of two, whose rank 0 is not heard.
class RankZeroIsGone : public Peers {
 public:
  int64_t rank() const override { return 1; }
  int64_t count() const override { return 2; }
  std::string name(int64_t rank) const override { return fmt::format("rank {}", rank); }
  void send(int64_t, std::span<const std::byte>) override { throw Failure("rank 0 is gone"); }
  void receive(int64_t, std::span<std::byte>) override { throw Failure("rank 0 is gone"); }
};

class FollowRun : public testing::Test {
 protected:
  void SetUp() override {
    model = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
    if (!fs::exists(model)) GTEST_SKIP() << model << " is absent: run tools/setup";
  }
  LoadedRecipe recipe() const {
    std::string lines;
    for (int i = 0; i < 12; ++i)
      lines += fmt::format("{{\"prompt\": \"{} hives and 7?\", \"completion\": \"{} hives\"}}\n", i, i + 7);
    return parse_recipe(fmt::format("model: {{path: {}, compute: f32}}\n"
                                    "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
                                    "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
                                    "train: {{steps: 2, threads: 1, batch: {{samples: 4}}}}\n"
                                    "eval: {{tasks: []}}\n"
                                    "export: {{adapter: true, merged: none, gguf: []}}\n"
                                    "run: {{folder: {}}}\n",
                                    model.string(), folder.write("samples.jsonl", lines), folder / "run"),
                        "r.yaml");
  }
  fs::path own() const { return folder_of_rank(folder / "run", 1); }

  TemporaryFolder folder;
  fs::path model;
};

// Its samples, as token ids, lay there until the next run of that rank.
TEST_F(FollowRun, ARankThatEndsWithAnErrorLeavesNothing) {
  RankZeroIsGone peers;
  EXPECT_THROW(follow_run(recipe(), peers), Failure);
  EXPECT_FALSE(fs::exists(own()));
}

TEST_F(FollowRun, AFolderThatIsNotItsOwnStays) {
  RankZeroIsGone peers;
  {
    const LockedFolder another(own());
    write_text(own() / "tokens.h5", "ids");
    EXPECT_THROW(follow_run(recipe(), peers), Failure);
    EXPECT_TRUE(fs::exists(own() / "tokens.h5"));
  }
  fs::remove_all(own());
  fs::create_directories(own());
  write_text(own() / "letters.txt", "of the user's");
  EXPECT_THROW(follow_run(recipe(), peers), Error);
  EXPECT_TRUE(fs::exists(own() / "letters.txt"));
}

}  // namespace
}  // namespace retort
