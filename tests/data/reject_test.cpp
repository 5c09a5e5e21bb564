#include "data/reject.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "data/temporary_folder.h"
#include "data/token_store.h"
#include "text/byte_tokenizer.h"
#include "where.h"  // tests

namespace retort {
namespace {

struct Row {
  std::string prompt, completion, answer = "", finish = "stop";
};

class Reject : public testing::Test {
 protected:
  // What is left of the rows, as indices.
  std::vector<size_t> kept(const std::vector<Row>& rows, const RejectSpec& spec) {
    std::string lines;
    for (const auto& row : rows)
      lines += Json{{"prompt", row.prompt},
                    {"completion", row.completion},
                    {"answer", row.answer},
                    {"finish_reason", row.finish}}
                   .dump() +
               "\n";
    source.path = folder.write("x.jsonl", lines);
    source.reject = spec;
    counts.clear();
    std::vector<size_t> left;
    for (const auto& record : read_records(source, 0, &counts))
      left.push_back(std::stoul(record.place.substr(record.place.rfind(':') + 1)) - 1);
    return left;
  }
  int64_t rejected(Rejection why) const { return counts.at(0).rejected[static_cast<size_t>(why)]; }

  TemporaryFolder folder;
  SourceSpec source;
  std::vector<RejectionCounts> counts;
};
using Indices = std::vector<size_t>;

TEST_F(Reject, AnswersAreComparedAsTheSpecSays) {
  RejectSpec spec{.unless_answer = "{answer}"};
  const std::vector<Row> rows = {
      {"q", "3 + 4 = 7. The answer is 7.", "7"},
      {"q", "so we get \\boxed{0.5}", "1/2"},                                // equal as formulas
      {"q", "it is 8", "7"},                                                 // wrong
      {"q", "I do not know", "7"},                                           // no answer at all
      {"q", "#### 1,072", "48 / 2 = 24, so \\boxed{1072}"},                  // the column is a solution
      {"q", "The answer is 17.", "7"}};                                      // ends with the right digit
  EXPECT_EQ(kept({{"q", "<think>\\boxed{7}?</think>The answer is 8.", "7"},  // thought of, not given
                  {"q", "<think>8?</think>The answer is 7 apples.", "7"},
                  {"q", "<think>it must be \\boxed{7}", "7"}},  // never answered
                 spec),
            (Indices{1}));
  EXPECT_EQ(kept(rows, spec), (Indices{0, 1, 4}));
  EXPECT_EQ(rejected(Rejection::wrong), 3);
  EXPECT_EQ(counts[0].records, 6);
  EXPECT_EQ(counts[0].total(), 3);

  spec.compare = "whole";
  EXPECT_EQ(kept({{"q", " Paris ", "Paris"}, {"q", "paris", "Paris"}, {"q", "Paris.", "Paris"}}, spec),
            (Indices{0}));
  spec.compare = "words";
  spec.duplicates = false;
  EXPECT_EQ(kept({{"q", "The cat.", "cat"}, {"q", "cat", "Cat!"}, {"q", "a dog", "cat"}}, spec),
            (Indices{0, 1}));
}

TEST_F(Reject, PatternsMustAndMustNotBeFound) {
  EXPECT_EQ(kept({{"q", "As an AI, no"}, {"q", "\\boxed{1}"}, {"q", "one"}},
                 {.unless_match = "\\\\boxed", .if_match = "(?i)as an ai"}),
            (Indices{1}));
  EXPECT_EQ(rejected(Rejection::forbidden), 1);
  EXPECT_EQ(rejected(Rejection::unmatched), 1);
}

TEST_F(Reject, LengthsCountCharactersWithoutSpaceAtTheEnds) {
  EXPECT_EQ(kept({{"q", "  üüü \n"}, {"q", "ab"}, {"q", "abcd"}, {"q", "abcde"}, {"q", ""}},
                 {.shorter_than = 3, .longer_than = 4}),
            (Indices{0, 2}));
  EXPECT_EQ(rejected(Rejection::too_short), 2);
  EXPECT_EQ(rejected(Rejection::too_long), 1);
}

TEST_F(Reject, CutAnswersGoByTheirFinishReason) {
  EXPECT_EQ(
      kept({{"q", "a", "", "stop"}, {"q", "b", "", "length"}, {"q", "c", "", "eos"}, {"q", "d", "", ""}},
           {.unless_finished = "finish_reason"}),
      (Indices{0, 2}));
  EXPECT_EQ(rejected(Rejection::unfinished), 2);
}

TEST_F(Reject, DuplicatesAreEqualWordsToOnePrompt) {
  const std::vector<Row> rows = {{"q", "It is 4."}, {"q", "it is  4"},  {"q", "It is -4."},
                                 {"r", "It is 4."}, {"q", "It is 1.5"}, {"q", "It is 15"}};
  EXPECT_EQ(kept(rows, {}), (Indices{0, 2, 3, 4, 5}));
  EXPECT_EQ(rejected(Rejection::duplicate), 1);
  EXPECT_EQ(kept(rows, {.duplicates = false}), (Indices{0, 1, 2, 3, 4, 5}));
}

// A wrong answer does not use up its prompt's share.
TEST_F(Reject, TheFirstAnswersThatPassAreKeptOfEachPrompt) {
  const std::vector<Row> rows = {
      {"q", "no 9", "1"}, {"q", "a 1", "1"}, {"q", "b 1", "1"}, {"q", "c 1", "1"}, {"r", "d 1", "1"}};
  EXPECT_EQ(kept(rows, {.unless_answer = "{answer}", .answers_per_prompt = 2}), (Indices{1, 2, 4}));
  EXPECT_EQ(rejected(Rejection::surplus), 1);
}

TEST_F(Reject, TheFirstReasonCountsAndTheLineNamesEach) {
  kept({{"q", "As an AI I cannot", "7", "length"},
        {"q", "x", "7"},
        {"q", "seven is 7", "7"},
        {"q", "eight is 8", "7"}},
       {.unless_answer = "{answer}",
        .if_match = "As an AI",
        .shorter_than = 3,
        .unless_finished = "finish_reason"});
  EXPECT_EQ(describe(counts[0]),
            source.path + ": 3 of 4 records rejected: 1 unfinished, 1 too short, 1 with a wrong answer");
}

// Answers of a model whose template marks thoughts in a spelling of its own.
TEST_F(Reject, ThoughtsInOtherMarksAreNoAnswers) {
  const std::vector<Row> rows = {{"q", "<reason>\\boxed{7}?</reason>The answer is 8.", "7"},
                                 {"q", "<reason>8?</reason>\n7", "7"},
                                 {"q", "<reason>it must be \\boxed{7}", "7"},
                                 {"q", "<think>8?</think>7", "7"}};
  RejectSpec spec{.unless_answer = "{answer}", .duplicates = false};
  EXPECT_EQ(kept(rows, spec), (Indices{0, 1, 2, 3}));  // nothing says that these are thoughts
  spec.thoughts = {"<reason>", "</reason>"};
  EXPECT_EQ(kept(rows, spec), (Indices{1, 3}));
  spec.compare = "whole";
  EXPECT_EQ(kept(rows, spec), (Indices{1, 3}));
}

TEST_F(Reject, WhatCannotWorkIsAnError) {
  const auto error_of = [&](const RejectSpec& spec) -> std::string {
    try {
      kept({{"q", "a", "b"}, {"q", "c", "d"}}, spec);
    } catch (const RecipeError& error) { return error.what(); }
    return "accepted";
  };
  EXPECT_NE(
      error_of({.thoughts = {"<reason>"}})
          .find("data.sources[0].reject.thoughts: expected two texts, what opens and what closes a thought, "
                "found [\"<reason>\"]"),
      std::string::npos);
  const auto nothing = error_of({.unless_answer = "{answer}", .compare = "whole"});
  EXPECT_EQ(nothing, "data.sources[0].reject: nothing is left: " + source.path +
                         ": 2 of 2 records rejected: 2 with a wrong answer");
  EXPECT_NE(
      error_of({.unless_answer = "{anwser}"})
          .find(source.path + ":1: data.sources[0].reject.unless_answer: the data has no column 'anwser' "
                              "(did you mean 'answer'?); columns are "),
      std::string::npos);
  EXPECT_NE(
      error_of({.unless_finished = "finish"})
          .find(source.path + ":1: data.sources[0].reject.unless_finished: the data has no column 'finish'"),
      std::string::npos);
  EXPECT_NE(
      error_of({.if_match = "["}).find("data.sources[0].reject.if_match: expected a regular expression"),
      std::string::npos);
  EXPECT_NE(error_of({.shorter_than = 9, .longer_than = 3}).find("so that nothing passes"),
            std::string::npos);
}

TEST_F(Reject, OtherSettingsMakeAnotherTokenStore) {
  kept({{"q", "a"}, {"q", "b"}}, {});
  DataSpec spec;
  spec.sources = {source};
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>"});
  const auto& chat = *find_chat_template("chatml");
  const auto before = provenance(spec, tokenizer, chat);
  spec.sources[0].reject->shorter_than = 2;
  EXPECT_NE(provenance(spec, tokenizer, chat), before);
  spec.sources[0].reject.reset();
  EXPECT_NE(provenance(spec, tokenizer, chat), before);
}

// The committed answers, counted by hand where they were written: of each kind four, and a third good answer
// to four prompts.
TEST(RejectRecipe, CountsTheCommittedAnswers) {
  SourceSpec source;
  source.path = std::string(source_dir()) + "/data/samples/arithmetic-answers.jsonl";
  source.reject = RejectSpec{.unless_answer = "{answer}",
                             .if_match = "(?i)as an ai",
                             .shorter_than = 10,
                             .longer_than = 400,
                             .unless_finished = "finish_reason",
                             .answers_per_prompt = 2};
  std::vector<RejectionCounts> counts;
  EXPECT_EQ(read_records(source, 0, &counts).size(), 32u);
  EXPECT_TRUE(
      describe(counts.at(0))
          .ends_with("28 of 60 records rejected: 4 unfinished, 4 too short, 4 matching reject.if_match, 8 "
                     "with a wrong answer, 4 equal to another answer, 4 beyond reject.answers_per_prompt"))
      << describe(counts.at(0));
}

}  // namespace
}  // namespace retort
