#include "data/check_samples.h"

#include <gtest/gtest.h>

#include <cctype>

#include "base/error.h"
#include "base/random.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const ChatTemplate& chatml() { return *find_chat_template("chatml"); }

Record talk(const std::string& question, const std::string& answer, const std::string& place = "f:1") {
  Record record;
  record.messages = {{"user", question}, {"assistant", answer}};
  record.place = place;
  return record;
}

DataSpec spec_with(const std::string& loss) {
  DataSpec spec;
  spec.sources.emplace_back();
  spec.loss = loss;
  return spec;
}

TEST(CheckSamples, MarksTheSupervisedTokens) {
  const auto sample =
      make_sample(spec_with("completion"), talk("q", "a\x1b[31m"), chat_tokenizer(), chatml());
  EXPECT_EQ(
      rendered_samples({sample}, chat_tokenizer(), 3, false),
      "--- f:1: 28 tokens, 7 of them "
      "learned\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n\u27e6a\\x1b[31m<|im_end|>\u27e7\n");
  const auto coloured = rendered_samples({sample}, chat_tokenizer(), 3, true);
  EXPECT_NE(coloured.find("\x1b[32ma\\x1b[31m<|im_end|>\x1b[0m"), std::string::npos) << coloured;
}

TEST(CheckSamples, GoodSamplesOfEveryLossAreAccepted) {
  for (const char* loss : {"completion", "last_answer", "all"}) {
    const auto sample = make_sample(spec_with(loss), talk("q", "a"), chat_tokenizer(), chatml());
    EXPECT_TRUE(sample_problems({sample}, chat_tokenizer(), chatml()).empty()) << loss;
  }
  Record text;
  text.text = "words of a text";
  auto sample = make_sample(spec_with("completion"), text, chat_tokenizer(), chatml());
  EXPECT_TRUE(sample_problems({sample}, chat_tokenizer(), chatml()).empty());
  sample.tokens.pop_back();  // a piece of it
  sample.weights.pop_back();
  EXPECT_TRUE(sample_problems({sample}, chat_tokenizer(), chatml()).empty());
}

TEST(CheckSamples, RefusesWhatCannotBeLearnedFrom) {
  const auto good = make_sample(spec_with("completion"), talk("q", "answer"), chat_tokenizer(), chatml());
  auto zero_mask = good;
  std::fill(zero_mask.weights.begin(), zero_mask.weights.end(), 0.0f);
  auto double_bos = good;
  double_bos.tokens.insert(double_bos.tokens.begin(), {258, 258});
  double_bos.weights.insert(double_bos.weights.begin(), {0, 0});
  auto untrained_eos = good;
  untrained_eos.weights[untrained_eos.weights.size() - 2] = 0;  // <|im_end|>, before the last line break
  auto cut_answer = good;
  cut_answer.tokens.resize(cut_answer.tokens.size() - 4);
  cut_answer.weights.resize(cut_answer.tokens.size());
  const std::pair<Sample, const char*> cases[] = {{zero_mask, "zero mask"},
                                                  {double_bos, "double BOS"},
                                                  {untrained_eos, "untrained EOS"},
                                                  {cut_answer, "cut answer"}};
  for (const auto& [sample, expected] : cases) {
    const auto problems = sample_problems({good, sample, good}, chat_tokenizer(), chatml());
    ASSERT_EQ(problems.size(), 1u) << expected;
    EXPECT_TRUE(problems[0].starts_with("1 of 3 samples: " + std::string(expected))) << problems[0];
    EXPECT_NE(problems[0].find("(f:1)"), std::string::npos);
    Dataset dataset;
    dataset.train = {good, sample};
    EXPECT_THROW(refuse_bad_samples(dataset, chat_tokenizer(), chatml()), RecipeError);
  }
}

TEST(CheckSamples, StatisticsByHand) {
  std::vector<Sample> samples;
  for (int length : {4, 8, 9, 20})  // tokens 0 1 2 ...: all share their first tokens
    for (int copy = 0; copy < 1; ++copy) {
      Sample sample;
      for (int i = 0; i < length; ++i)
        sample.tokens.push_back(i), sample.weights.push_back(i + 1 == length ? 1.0f : 0.0f);
      samples.push_back(sample);
    }
  const auto found = sample_statistics(samples, 4, 1000, 7);
  EXPECT_EQ(found.tokens, 41);
  EXPECT_EQ(found.supervised, 4);
  EXPECT_EQ(found.median, 8);
  EXPECT_EQ(found.longest, 20);
  EXPECT_EQ(found.histogram, (std::vector<std::pair<int64_t, int64_t>>{{8, 2}, {16, 1}, {32, 1}}));
  // Rows: each sample but its last token: 3 + 7 + 8 + 19 = 37 plain; as one path 19.
  EXPECT_NEAR(found.shared_saving, 1 - 19.0 / 37.0, 0.12);
}

TEST(CheckSamples, WhatWasDoneWithRecordsIsTold) {
  DataSpec spec;
  Dataset dataset;
  dataset.counts.records = 9;
  dataset.counts.changed_answers = 3;
  dataset.counts.dropped_thoughts = 2;
  dataset.counts.cut = 4;
  Overlap overlap;
  overlap.held_out = 5;
  overlap.prompts = 1;
  const auto told = describe_samples(spec, dataset, {}, overlap);
  for (const char* line :
       {"\n  3 answers in samples of their own: the template writes them otherwise once later turns follow\n",
        "\n  2 answers learned without their thought: the template drops it\n",
        "\n  4 cut to data.sample_tokens (data.keep: start)\n",
        "; 1 have a prompt that the training data has too (data.sources.group: prompt"})
    EXPECT_NE(told.find(line), std::string::npos) << line << told;
  spec.changed_answers = "leave_out";
  const auto left = describe_samples(spec, dataset, {}, {});
  EXPECT_NE(left.find("\n  3 answers left out: the template writes them otherwise"), std::string::npos)
      << left;
}

TEST(Overlap, PlantedCopiesAreFoundAndACleanSetHasNone) {
  std::vector<Record> records;
  std::vector<bool> held;
  const std::string instruction =
      "Please answer the following question in a few short words and never add any explanation at all: ";
  for (int i = 0; i < 60; ++i) {
    std::string question = instruction;
    for (int w = 0; w < 20; ++w)
      question += "w" + std::to_string(mix_bits(static_cast<uint64_t>(i * 100 + w)) % 100000) + " ";
    records.push_back(talk(question, "a" + std::to_string(i), "f:" + std::to_string(i)));
    held.push_back(i % 6 == 0);
  }
  EXPECT_EQ(find_overlap(records, held).exact, 0);
  EXPECT_EQ(find_overlap(records, held).ngram, 0);  // the instruction is common text
  EXPECT_EQ(find_overlap(records, held).held_out, 10);

  auto copy = records[7];  // a training record, with other case and punctuation
  for (auto& c : copy.messages[0].content) c = c == ' ' ? '-' : static_cast<char>(std::toupper(c));
  copy.place = "g:1";
  records.push_back(copy);
  held.push_back(true);
  auto part = talk("Unrelated. " + records[8].messages[0].content.substr(instruction.size()) + " tail",
                   "other", "g:2");
  records.push_back(part);
  held.push_back(true);
  const auto found = find_overlap(records, held);
  EXPECT_EQ(found.exact, 1);
  EXPECT_EQ(found.ngram, 1);
  ASSERT_EQ(found.places.size(), 2u);
  EXPECT_EQ(found.places[0], "g:1 = f:7");
  EXPECT_EQ(found.places[1], "g:2 ~ f:8");
}

}  // namespace
}  // namespace retort
