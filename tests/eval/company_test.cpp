// Ranks that score texts together: rank 0 has the numbers that it would have alone, bit for bit.
#include "eval/company.h"

#include <gtest/gtest.h>

#include "base/stop.h"
#include "text/byte_tokenizer.h"     // tests/text
#include "train/peers_of_threads.h"  // tests/train
#include "where.h"                   // tests

namespace retort {
namespace {

// In memory, or where `memory` says something, read layer by layer.
LoadedModel tiny_model(const std::string& memory = "") {
  return load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string(),
                       .schedule = memory.empty() ? "tokens" : "layers",
                       .memory = memory});
}

// Their first 20 tokens are the same, which is worth a cache where `shared`.
std::vector<Sample> texts(bool shared) {
  std::vector<Sample> samples(13);
  for (int32_t s = 0; s < 13; ++s)
    for (int32_t i = 0; i < 30 + s; ++i) {
      const bool own = !shared || i >= 20;
      samples[static_cast<size_t>(s)].tokens.push_back(3 + (own ? 11 * i + 13 * s : 7 * i) % 80);
      samples[static_cast<size_t>(s)].weights.push_back(i < 22 ? 0 : i % 3 == 0 ? 0.5f : 1);
    }
  return samples;
}

Subject subject_of(const LoadedModel& loaded, const Tokenizer& tokenizer, int64_t threads) {
  Subject subject{*loaded.model, tokenizer};
  subject.threads = threads, subject.row_tokens = 64;
  return subject;
}

// What rank 0 of so many measures; what each has thrown goes to `thrown`.
std::vector<SampleLikelihood> by_ranks(int64_t count, const std::vector<Sample>& samples, int64_t threads,
                                       std::vector<std::exception_ptr>& thrown,
                                       const std::string& memory = "") {
  std::vector<SampleLikelihood> measured;
  thrown = as_ranks(count, [&](Peers& peers) {
    const ByteTokenizer tokenizer({});
    const auto loaded = tiny_model(memory);
    if (peers.rank() > 0) {
      broadcast_text(peers, 0, "");
      return help_with_scores(peers, *loaded.model, tokenizer);
    }
    const Company company{peers, [&] { broadcast_text(peers, 0, "come"); }};
    auto subject = subject_of(loaded, tokenizer, threads);
    subject.company = &company;
    measured = likelihoods(subject, samples);
  });
  return measured;
}

void expect_equal(const std::vector<SampleLikelihood>& measured, const std::vector<SampleLikelihood>& alone,
                  int64_t ranks) {
  ASSERT_EQ(measured.size(), alone.size());
  for (size_t i = 0; i < alone.size(); ++i) {
    const auto which = fmt::format("{} ranks, text {}", ranks, i);
    EXPECT_LT(measured[i].log_probability, 0) << which;
    EXPECT_EQ(measured[i].log_probability, alone[i].log_probability) << which;
    EXPECT_EQ(measured[i].weight, alone[i].weight) << which;
    EXPECT_EQ(measured[i].tokens, alone[i].tokens) << which;
    EXPECT_EQ(measured[i].correct, alone[i].correct) << which;
  }
}

}  // namespace

TEST(Company, HasTheBitsOfOneProcess) {
  for (const bool shared : {false, true})
    for (const int64_t threads : {1, 3}) {
      const ByteTokenizer tokenizer({});
      const auto loaded = tiny_model();
      const auto samples = texts(shared);
      const auto alone = likelihoods(subject_of(loaded, tokenizer, threads), samples);
      for (int64_t count = 1; count <= 4; ++count) {
        std::vector<std::exception_ptr> thrown;
        const auto measured = by_ranks(count, samples, threads, thrown);
        for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
        expect_equal(measured, alone, count);
      }
    }
}

// A model that is read layer by layer: each rank has some of its layers.
TEST(Company, RanksThatDivideTheLayersHaveTheBitsOfOneProcess) {
  for (const bool shared : {false, true})
    for (const auto* memory : {"1B", "1GiB"}) {
      const ByteTokenizer tokenizer({});
      const auto loaded = tiny_model(memory);
      const auto samples = texts(shared);
      const auto alone = likelihoods(subject_of(loaded, tokenizer, 2), samples);
      for (int64_t count = 1; count <= 3; ++count) {
        std::vector<std::exception_ptr> thrown;
        const auto measured = by_ranks(count, samples, 2, thrown, memory);
        for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
        expect_equal(measured, alone, count);
      }
    }
}

TEST(Company, AStopIsRankZerosAndTheOthersWaitForItsNextWord) {
  request_stop();
  std::vector<std::exception_ptr> thrown;
  by_ranks(3, texts(true), 1, thrown);
  forget_stop();
  EXPECT_NE(text_of(thrown[0]).find("stopped while evaluating"), std::string::npos) << text_of(thrown[0]);
  EXPECT_EQ(text_of(thrown[1]), "");
  EXPECT_EQ(text_of(thrown[2]), "");
}

}  // namespace retort
