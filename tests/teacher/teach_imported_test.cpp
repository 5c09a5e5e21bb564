// What becomes of a teacher's words from a folder: cache parts, all of them or none.
#include "teacher/teach_imported.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data

namespace retort {
namespace {

constexpr int64_t kVocabulary = 50;

// After token t come t+1, t+2, t+3 with probabilities 1/2, 1/4, 1/8; `shift` rows too early or too late.
class Kept : public ScoredTexts {
 public:
  Kept(const std::vector<Sample>& samples, int shift) : samples_(samples), shift_(shift) {}
  bool next(ScoredText& text) override {
    if (at_ == samples_.size()) return false;
    text.place = fmt::format("text {}", at_ + 1);
    text.tokens = samples_[at_++].tokens;
    text.rows.clear();
    for (size_t p = 0; p + 1 < text.tokens.size(); ++p) {
      text.rows.emplace_back();
      const auto said = static_cast<int64_t>(p) + shift_;
      const auto token = text.tokens[static_cast<size_t>(
          std::clamp<int64_t>(said, 0, static_cast<int64_t>(text.tokens.size()) - 1))];
      for (int32_t j = 1; j <= 3; ++j)
        text.rows.back().ids.push_back(static_cast<int32_t>((token + j) % kVocabulary)),
            text.rows.back().log_p.push_back(static_cast<float>(j * std::log(0.5)));
    }
    return true;
  }
  std::string remarks() const override { return "as told"; }

 private:
  const std::vector<Sample>& samples_;
  int shift_;
  size_t at_ = 0;
};

class TeachImported : public testing::Test {
 protected:
  TeachImported() {
    keep.draws = 0;
    keep.head = 2;
    keep.part_positions = 64;
    const Draws draws(1, "samples");
    for (uint64_t s = 0; s < 30; ++s) {
      Sample sample;
      sample.id = fmt::format("s:{}", s);
      for (uint64_t i = 0; i < 12; ++i) {  // what a teacher that knows its texts would have seen
        sample.tokens.push_back(static_cast<int32_t>(
            i == 0 ? s
                   : (static_cast<uint64_t>(sample.tokens.back()) + 1 + draws.below(s * 100 + i, 3)) %
                         kVocabulary));
        sample.weights.push_back(i < 4 ? 0 : 1);
      }
      samples.push_back(sample);
    }
    samples.push_back(samples[3]);
  }
  ImportJob job(const std::vector<Sample>& texts, int shift = 0) {
    const auto path = std::filesystem::path(folder / "cache");
    return {"kept", [&texts, shift] { return std::make_unique<Kept>(texts, shift); }, kVocabulary, samples,
            path,   cache_provenance({"w", "t", "c", "imported", 1}, samples, keep),  keep};
  }
  std::string problem(const ImportJob& work) {
    try {
      teach_imported(work);
      return "";
    } catch (const FormatError& error) {
      EXPECT_FALSE(std::filesystem::exists(work.folder)) << "something was written";
      return error.what();
    }
  }
  KeepSpec keep;
  std::vector<Sample> samples;
  TemporaryFolder folder;
};

TEST_F(TeachImported, KeepsWhatFollowsEachSupervisedPosition) {
  std::vector<Sample> texts(samples.rbegin(),
                            samples.rend());  // in another order, with one that nobody asks for
  texts.push_back({{9, 9, 9}, {1, 1, 1}, "other"});
  const auto work = job(texts);
  const auto done = teach_imported(work);
  EXPECT_EQ(done.teach.positions_done, 30 * 8);
  EXPECT_GT(done.teach.parts_done, 2u);
  EXPECT_EQ(done.texts, 32);
  EXPECT_EQ(done.used, 31);
  EXPECT_EQ(done.remarks, "as told");
  const TeacherCache cache(work.folder, work.made_from, plan_cache(samples, keep.part_positions), keep,
                           kVocabulary);
  EXPECT_TRUE(cache.missing_parts().empty());
  double rest = 0;
  for (const auto& sample : samples) {
    const auto here = contexts(sample.tokens);
    for (size_t i = 4; i < 12; ++i) {
      const auto row = cache.at(here[i - 1]);
      ASSERT_EQ(row.ids.size(), 2u);
      for (int32_t j = 0; j < 2; ++j) {
        EXPECT_EQ(row.ids[static_cast<size_t>(j)], (sample.tokens[i - 1] + 1 + j) % kVocabulary);
        EXPECT_NEAR(row.p[static_cast<size_t>(j)], std::pow(0.5, j + 1),
                    0.0035 * 2 * std::pow(0.5, j + 1));  // 12 bits
      }
      rest += row.rest / 248;
    }
  }
  EXPECT_NEAR(rest, 0.25, 5e-4);             // the third rank is not kept: it is in the rest
  EXPECT_EQ(teach_imported(work).texts, 0);  // nothing is missing
}

TEST_F(TeachImported, SamplesWithoutRowsAreCountedAndNothingIsWritten) {
  std::vector<Sample> texts(samples.begin() + 2, samples.end());
  EXPECT_EQ(
      problem(job(texts)),
      "teacher.distillkit: 2 of 31 samples are not covered by the 29 texts of the folder; the first is s:0 "
      "(8 of its positions have no row). Samples must be the same tokens from the start of the text: check "
      "data.template, BOS and where long texts are cut");
  texts = samples;
  texts[5].tokens.resize(10);  // cut: rows for tokens up to the tenth
  EXPECT_NE(problem(job(texts))
                .find("1 of 31 samples are not covered by the 31 texts of the folder; the first is s:5 (2 of "
                      "its positions"),
            std::string::npos);
}

TEST_F(TeachImported, RowsBesideOtherTokensAreRefused) {
  EXPECT_NE(problem(job(samples, -1))
                .find("kept: the likeliest tokens of its rows hold the token beside them more often ("),
            std::string::npos)
      << problem(job(samples, -1));
  EXPECT_NE(problem(job(samples, 1)).find("hold the token two places on more often"), std::string::npos)
      << problem(job(samples, 1));
}

TEST(DistillKitFiles, AFolderIsNamedByTheHashesOfItsFiles) {
  TemporaryFolder folder;
  const auto name = [&] { return distillkit_files(folder / "", folder / "no cache"); };
  folder.write("compression_config.yaml", "a");
  folder.write("data_0.parquet", "b");
  folder.write("README.md", "c");
  const auto first = name();
  EXPECT_NE(first.find("1 files"), std::string::npos);
  EXPECT_NE(
      first.find("compression_config.yaml ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
      std::string::npos)
      << first;  // sha256 of "a"
  folder.write("README.md", "d");
  EXPECT_EQ(name(), first);
  folder.write("data_0.parquet", "bb");
  EXPECT_NE(name(), first);
  EXPECT_THROW(distillkit_files(folder / "absent", folder / "no cache"), FormatError);
}

}  // namespace
}  // namespace retort
