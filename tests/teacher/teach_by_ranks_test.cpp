// A cache that ranks make together is the one that one process makes, byte for byte.
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/stop.h"
#include "data/temporary_folder.h"  // tests/data
#include "teacher/teach.h"
#include "train/peers_of_threads.h"  // tests/train
#include "where.h"                   // tests

namespace retort {
namespace {

struct Made {
  std::string bytes;
  TeachProgress progress;
};

ModelSpec golden(const std::string& family) {
  return {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string()};
}

ModelSpec by_layers(const std::string& family, const std::string& memory) {
  auto spec = golden(family);
  spec.schedule = "layers", spec.memory = memory;
  return spec;
}

// By a process without peers, or as a rank of several.
Made teach_some(const std::filesystem::path& folder, const std::vector<Sample>& texts, Peers* peers,
                const ModelSpec& spec = golden("llama"), const std::function<void()>& on_part = {}) {
  const auto teacher = load_weights(spec);
  KeepSpec keep;
  keep.part_positions = 64;
  TeachJob job{.teacher = *teacher.model,
               .vocabulary = teacher.model->config.vocabulary,
               .samples = texts,
               .folder = folder,
               .made_from = cache_provenance({"w", "t", "c", "f32", 1}, texts, keep),
               .keep = keep,
               .row_tokens = 48,
               .threads = 2};
  job.peers = peers;
  Made made;
  made.progress = teach(job, [&](const TeachProgress& progress) {
    if (on_part && progress.parts_done > 0) on_part();
  });
  for (size_t part = 0; std::filesystem::exists(cache_part_file(folder, part)); ++part)
    made.bytes += read_text(cache_part_file(folder, part));
  return made;
}

std::vector<Sample> some_texts() {
  std::vector<Sample> texts(40);
  for (int32_t s = 0; s < 40; ++s) {
    auto& text = texts[static_cast<size_t>(s)];
    text.id = "f:" + std::to_string(s);
    for (int32_t i = 0; i < 12; ++i) {
      text.tokens.push_back(3 + (i < 4 ? 7 * i + s / 4 : 11 * i + 13 * s) % 90);
      text.weights.push_back(i < 4 ? 0 : 1);
    }
  }
  return texts;
}

}  // namespace

TEST(TeachByRanks, WritesTheBytesOfOneProcessAtRankZeroAlone) {
  const auto texts = some_texts();
  const TemporaryFolder folder;
  const auto alone = teach_some(folder / "alone", texts, nullptr);
  EXPECT_GT(alone.progress.parts_done, 2u);
  for (int64_t count = 1; count <= 4; ++count) {
    const auto name = [&](int64_t rank) { return folder / fmt::format("{}-of-{}", rank, count); };
    // What is there of an earlier session is rank 0's to know.
    std::filesystem::create_directories(name(0));
    std::filesystem::copy(cache_part_file(folder / "alone", 1), cache_part_file(name(0), 1));
    std::vector<Made> made(static_cast<size_t>(count));
    const auto thrown = as_ranks(count, [&](Peers& peers) {
      made[static_cast<size_t>(peers.rank())] = teach_some(name(peers.rank()), texts, &peers);
    });
    for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
    EXPECT_TRUE(made[0].bytes == alone.bytes) << count << " ranks";
    for (const auto& each : made) EXPECT_EQ(each.progress.parts_done, alone.progress.parts_done - 1);
    for (int64_t rank = 1; rank < count; ++rank) EXPECT_FALSE(std::filesystem::exists(name(rank)));
  }
}

// A teacher that is read layer by layer: each rank has some of its layers.
TEST(TeachByRanks, RanksThatDivideTheLayersWriteTheBytesOfOneProcess) {
  const auto texts = some_texts();
  for (const auto* family : {"llama", "qwen3_moe", "deepseek_v3"}) {
    const TemporaryFolder folder;
    const auto alone = teach_some(folder / "alone", texts, nullptr, golden(family));
    EXPECT_GT(alone.progress.parts_done, 2u);
    for (const auto* memory : {"1B", "1GiB"})
      for (int64_t count = 1; count <= 4; ++count) {
        const auto name = [&](int64_t rank) {
          return folder / fmt::format("{}-of-{}-{}", rank, count, memory);
        };
        std::filesystem::create_directories(name(0));
        std::filesystem::copy(cache_part_file(folder / "alone", 1), cache_part_file(name(0), 1));
        std::vector<Made> made(static_cast<size_t>(count));
        const auto thrown = as_ranks(
            count,
            [&](Peers& peers) {
              made[static_cast<size_t>(peers.rank())] =
                  teach_some(name(peers.rank()), texts, &peers, by_layers(family, memory));
            },
            Sending::meets);
        for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
        EXPECT_TRUE(made[0].bytes == alone.bytes) << family << ", " << count << " ranks, " << memory;
        for (const auto& each : made) {
          EXPECT_EQ(each.progress.parts_done, alone.progress.parts_done - 1);
          EXPECT_EQ(each.progress.positions_done, made[0].progress.positions_done);
        }
        for (int64_t rank = 1; rank < count; ++rank) EXPECT_FALSE(std::filesystem::exists(name(rank)));
      }
  }
}

// Parts are written while others are still asked for: a stop keeps them, and the same command goes on.
TEST(TeachByRanks, RanksThatDivideTheLayersKeepTheWholePartsWhenStopped) {
  const auto texts = some_texts();
  const TemporaryFolder folder;
  const auto alone = teach_some(folder / "alone", texts, nullptr);
  const auto ask = [&](const std::function<void()>& on_part) {
    std::string bytes;
    const auto thrown = as_ranks(
        2,
        [&](Peers& peers) {
          const auto made = teach_some(folder / fmt::format("{}", peers.rank()), texts, &peers,
                                       by_layers("llama", "1B"), peers.rank() == 0 ? on_part : nullptr);
          if (peers.rank() == 0) bytes = made.bytes;
        },
        Sending::meets);
    return std::pair{bytes, text_of(thrown[0]) + text_of(thrown[1])};
  };
  const auto [none, stopped] = ask([] { request_stop(); });
  forget_stop();
  EXPECT_TRUE(stopped.starts_with("stopped while asking the teacher")) << stopped;
  EXPECT_TRUE(std::filesystem::exists(cache_part_file(folder / "0", 0)));
  EXPECT_FALSE(std::filesystem::exists(cache_part_file(folder / "0", alone.progress.parts_done - 1)));
  const auto [bytes, thrown] = ask(nullptr);
  EXPECT_EQ(thrown, "");
  EXPECT_TRUE(bytes == alone.bytes);
}

TEST(TeachByRanks, AStopIsRankZerosAndTheOthersReturn) {
  const TemporaryFolder folder;
  const auto texts = some_texts();
  request_stop();
  const auto thrown =
      as_ranks(2, [&](Peers& peers) { teach_some(folder / fmt::format("{}", peers.rank()), texts, &peers); });
  forget_stop();
  EXPECT_NE(text_of(thrown[0]).find("stopped while asking the teacher"), std::string::npos)
      << text_of(thrown[0]);
  EXPECT_EQ(text_of(thrown[1]), "");
}

}  // namespace retort
