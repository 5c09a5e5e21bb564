#include "teacher/teach.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/random.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/layer_stream.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::vector<Sample> samples() {
  const Draws draws(1, "samples");
  std::vector<Sample> all;
  for (uint64_t s = 0; s < 40; ++s) {
    Sample sample;
    for (uint64_t i = 0; i < 12; ++i)
      sample.tokens.push_back(static_cast<int32_t>(3 + draws.below((i < 4 ? s / 4 : s) * 100 + i, 90))),
          sample.weights.push_back(i < 4 ? 0 : 1);
    sample.id = "f:" + std::to_string(s);
    all.push_back(sample);
  }
  return all;
}

// The bytes of all parts of a cache that a teacher was asked for.
std::string cache_of(const std::string& family, const std::string& schedule, const std::string& memory,
                     TeachProgress* progress = nullptr, const std::string& scratch = "") {
  const TemporaryFolder folder;
  ModelSpec spec;
  spec.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string();
  spec.schedule = schedule, spec.memory = memory, spec.scratch = scratch;
  const auto teacher = load_weights(spec);
  EXPECT_EQ(teacher.model->stream() != nullptr, schedule == "layers");
  const auto texts = samples();
  KeepSpec keep;
  keep.part_positions = 64;
  const auto made_from = cache_provenance({"w", "t", "c", "f32", 1}, texts, keep);
  const TeachJob job{*teacher.model,
                     at::kFloat,
                     teacher.model->config.vocabulary,
                     1,
                     texts,
                     folder / "cache",
                     made_from,
                     keep,
                     48,
                     2,
                     0,
                     1};
  const auto done = teach(job);
  if (progress) *progress = done;
  std::string all;
  for (size_t part = 0; part < done.parts; ++part) all += read_text(cache_part_file(folder / "cache", part));
  return all;
}

}  // namespace

TEST(Teach, ATeacherThatIsReadLayerByLayerSaysTheSameBytes) {
  for (const auto* family : {"llama", "qwen3_moe", "deepseek_v32_sparse"}) {
    TeachProgress in_memory;
    const auto want = cache_of(family, "tokens", "", &in_memory);
    EXPECT_GT(in_memory.parts, 3u);
    for (const auto* memory : {"1B", "16KiB", "1GiB"}) {
      TeachProgress in_file;
      EXPECT_TRUE(cache_of(family, "layers", memory, &in_file) == want) << family << " " << memory;
      EXPECT_EQ(in_file.parts_done, in_memory.parts_done);
      EXPECT_EQ(in_file.tokens, in_memory.tokens);
    }
    const TemporaryFolder folder;
    const auto scratch = folder / "scratch";
    TeachProgress waiting;
    EXPECT_TRUE(cache_of(family, "layers", "1B", &waiting, scratch) == want) << family;
    EXPECT_EQ(waiting.parts_done, in_memory.parts_done);
    EXPECT_TRUE(std::filesystem::is_empty(scratch)) << "what is kept in parts is not kept twice";
  }
}

}  // namespace retort
