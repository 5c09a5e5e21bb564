// What becomes of a server's words: cache parts and lines of answers, whatever was there before.
#include "teacher/teach_served.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/temporary_folder.h"  // tests/data

namespace retort {
namespace {

constexpr int64_t kVocabulary = 50;

// After token t come t+1, t+2, ... with probabilities 1/2, 1/4, ...
class Rule : public ServedTeacher {
 public:
  const std::string& model() const override { return name; }
  int64_t retries() const override { return 0; }
  std::vector<std::vector<TopRow>> score(std::span<const Sample> samples, int64_t top) override {
    if (--calls_left < 0) throw Failure("gone");
    std::vector<std::vector<TopRow>> all;
    for (const auto& sample : samples) {
      all.emplace_back(sample.tokens.size());
      asked_tokens += static_cast<int64_t>(sample.tokens.size());
      for (size_t i = 0; i < sample.tokens.size(); ++i)
        for (int64_t j = 0; j < top; ++j) {
          all.back()[i].ids.push_back(static_cast<int32_t>((sample.tokens[i] + 1 + j) % kVocabulary));
          all.back()[i].log_p.push_back(
              static_cast<float>(shift + static_cast<double>(j + 1) * std::log(0.5)));
        }
    }
    return all;
  }
  std::vector<ServedAnswer> answer(std::span<const AnswerRequest> requests, const AnswersSpec&) override {
    if (--calls_left < 0) throw Failure("gone");
    std::vector<ServedAnswer> answers;
    for (const auto& request : requests)
      answers.push_back({fmt::format("{}={}", request.prompt.back().content, request.seed), "stop"});
    return answers;
  }
  std::string name = "rule";
  int calls_left = 1 << 20;
  int64_t asked_tokens = 0;
  double shift = 0;
};

class TeachServed : public testing::Test {
 protected:
  TeachServed() {
    keep.draws = 0;
    keep.head = 3;
    keep.part_positions = 64;
    const Draws draws(1, "samples");
    for (uint64_t s = 0; s < 30; ++s) {
      Sample sample;
      for (uint64_t i = 0; i < 12; ++i)
        sample.tokens.push_back(static_cast<int32_t>(draws.below(s * 100 + i, kVocabulary))),
            sample.weights.push_back(i < 4 ? 0 : 1);
      sample.id = fmt::format("s:{}", s);
      samples.push_back(sample);
    }
    samples.push_back(samples[3]);  // all its contexts are there already
  }
  ServedTeachJob job(const std::string& name, Rule& teacher) {
    const auto path = std::filesystem::path(folder / name);
    return {[&]() -> ServedTeacher& { return teacher; },
            kVocabulary,
            samples,
            path,
            cache_provenance({"w", "t", "c", "served", 1}, samples, keep),
            keep,
            5,
            0,
            1};
  }
  TeacherCache open(const ServedTeachJob& work) const {
    return TeacherCache(work.folder, work.made_from, plan_cache(samples, keep.part_positions), keep,
                        kVocabulary);
  }
  static std::string bytes_of(const std::filesystem::path& folder_of) {
    std::string all;
    for (size_t part = 0; std::filesystem::exists(cache_part_file(folder_of, part)); ++part)
      all += read_text(cache_part_file(folder_of, part));
    return all;
  }
  KeepSpec keep;
  std::vector<Sample> samples;
  TemporaryFolder folder;
};

TEST_F(TeachServed, KeepsTheHeadAndOneBucketForTheRest) {
  Rule teacher;
  const auto work = job("a", teacher);
  const auto done = teach_served(work);
  EXPECT_GT(done.parts, 2u);
  EXPECT_EQ(done.positions_done, 30 * 8);
  EXPECT_EQ(teacher.asked_tokens, 30 * 12);  // nothing for the sample that others cover
  const auto cache = open(work);
  EXPECT_TRUE(cache.missing_parts().empty());
  double mean[3] = {}, rest = 0;
  for (const auto& sample : samples) {
    const auto here = contexts(sample.tokens);
    for (size_t i = 4; i < 12; ++i) {
      const auto row = cache.find(here[i - 1]);
      ASSERT_TRUE(row);
      ASSERT_EQ(row->head, 3u);
      ASSERT_EQ(row->ids.size(), 3u);  // no draws
      for (int32_t j = 0; j < 3; ++j) {
        EXPECT_EQ(row->ids[static_cast<size_t>(j)], (sample.tokens[i - 1] + 1 + j) % kVocabulary);
        EXPECT_NEAR(
            row->p[static_cast<size_t>(j)], std::pow(0.5, j + 1),
            0.0035 * 2 * std::pow(0.5, j + 1));  // 12 bits: within 0.35 % of the share and of what is left
        mean[j] += row->p[static_cast<size_t>(j)] / 248;
      }
      rest += row->rest / 248;
      EXPECT_NEAR(row->entropy, 1.75 * std::log(2), 1.0 / 128);  // 1/2, 1/4, 1/8 and 1/8 together
    }
  }
  for (int j = 0; j < 3; ++j)
    EXPECT_NEAR(mean[j], std::pow(0.5, j + 1), 5e-4);  // rounded at random, right on average
  EXPECT_NEAR(rest, 0.125, 5e-4);
}

TEST_F(TeachServed, ContinuesWhereAServerLeftIt) {
  Rule whole, dying, after;
  teach_served(job("a", whole));
  dying.calls_left = 5;
  EXPECT_THROW(teach_served(job("b", dying)), Failure);
  const auto before = open(job("b", after)).missing_parts().size();
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, open(job("a", after)).missing_parts().size() + 4);
  const auto rest = teach_served(job("b", after));
  EXPECT_EQ(rest.parts, before);
  EXPECT_LT(after.asked_tokens, whole.asked_tokens);
  EXPECT_EQ(bytes_of(folder / "b"), bytes_of(folder / "a"));
  Rule never;
  never.calls_left = 0;
  EXPECT_EQ(teach_served(job("a", never)).parts, 0u);
}

TEST_F(TeachServed, AnotherModelAtTheSameAddressDoesNotGoOn) {
  Rule first, second;
  first.calls_left = 2;
  EXPECT_THROW(teach_served(job("a", first)), Failure);
  second.name = "law";
  try {
    teach_served(job("a", second));
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(
        std::string(error.what()).find("was begun by the server's model 'rule', which now answers as 'law'"),
        std::string::npos)
        << error.what();
  }
  EXPECT_EQ(second.asked_tokens, 0);
}

TEST_F(TeachServed, WhatIsNoDistributionIsRefused) {
  Rule hot;
  hot.shift = 0.5;  // adds up to 1.44
  try {
    teach_served(job("a", hot));
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("after token 4 of s:0 add up to 1.4426"), std::string::npos)
        << error.what();
  }
}

TEST(EncodeTopRow, HandlesHeadsThatHoldEverything) {
  KeepSpec keep;
  keep.draws = 0;
  keep.head = 4;
  BitWriter out;
  encode_top_row({{2, 0}, {std::log(0.75f), std::log(0.25f)}}, 3, keep, {Draws(1, "x"), 0}, out);
  BitReader in("memory", out.bytes());
  const auto row = decode_row(in, keep, 3, "memory");
  ASSERT_EQ(row.head, 2u);
  EXPECT_NEAR(row.p[0], 0.75, 0.002);
  EXPECT_NEAR(row.p[0] + row.p[1] + row.rest, 1, 1e-6);
  EXPECT_LT(row.rest, 1e-6);
}

class SampleAnswers : public testing::Test {
 protected:
  SampleAnswers() {
    for (int i = 0; i < 7; ++i)
      records.push_back({{{"user", "q" + std::to_string(i)}, {"assistant", "a" + std::to_string(i)}},
                         "",
                         {},
                         "x.jsonl:" + std::to_string(i + 1),
                         "",
                         0});
    spec.file = folder / "answers.jsonl";
    spec.per_prompt = 2;
  }
  AnswersProgress run(Rule& teacher, int64_t at_a_time = 3, const std::string& model = "rule") {
    return sample_answers({[&]() -> ServedTeacher& { return teacher; }, model, records, spec, at_a_time});
  }
  std::string problem() {
    Rule teacher;
    try {
      run(teacher);
    } catch (const Error& error) { return error.what(); }
    return "none";
  }
  std::vector<Record> records;
  AnswersSpec spec;
  TemporaryFolder folder;
};

TEST_F(SampleAnswers, LinesSayWhatWasAskedAndWhatIsKnown) {
  Rule teacher;
  const auto done = run(teacher);
  EXPECT_EQ(done.done, 14);
  EXPECT_EQ(done.asked, 14);
  EXPECT_EQ(done.finished, 14);
  SourceSpec source;
  source.path = spec.file;
  source.reject = RejectSpec{.unless_finished = "finish_reason"};
  const auto back = read_records(source, 0);  // a data source like any other
  ASSERT_EQ(back.size(), 14u);
  EXPECT_EQ(back[3].messages.at(0).content, "q1");
  EXPECT_TRUE(back[3].completion().starts_with("q1="));
  EXPECT_NE(back[2].completion(), back[3].completion());  // another seed
  EXPECT_EQ(fill_placeholders("{reference} {source} {number} {teacher}", back[3].columns, "test"),
            "a1 x.jsonl:2 1 rule");
}

TEST_F(SampleAnswers, AnUnnamedModelIsTheServersAndStaysIt) {
  Rule rule, law;
  rule.calls_left = 2;
  law.name = "law";
  const auto unnamed = [&](Rule& teacher) { return run(teacher, 3, ""); };
  EXPECT_THROW(unnamed(rule), Failure);
  try {
    unnamed(law);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("its answers are of the model 'rule', the server's is 'law'"),
              std::string::npos)
        << error.what();
  }
  rule.calls_left = 100;
  EXPECT_EQ(unnamed(rule).done, 14);
  const auto all = read_text(spec.file);
  Rule never;
  EXPECT_EQ(run(never).asked, 0);  // the same with its name
  EXPECT_EQ(read_text(spec.file), all);
}

TEST_F(SampleAnswers, GoOnAfterAKillAndEndWithTheSameBytes) {
  Rule teacher;
  run(teacher);
  const auto whole = read_text(spec.file);
  for (const size_t size :
       {size_t{0}, size_t{10}, whole.size() / 3, whole.find('\n') + 1, whole.size() - 1}) {
    std::ofstream(spec.file, std::ios::trunc) << whole.substr(0, size);
    Rule dying;
    dying.calls_left = 2;
    try {
      run(dying);
    } catch (const Failure&) {}
    Rule after;
    EXPECT_EQ(run(after).done, 14);
    EXPECT_EQ(read_text(spec.file), whole) << size;
  }
  Rule never;
  never.calls_left = 0;
  EXPECT_EQ(run(never).asked, 0);
}

TEST_F(SampleAnswers, OtherSettingsOrPromptsAreAnError) {
  Rule teacher;
  run(teacher);
  spec.temperature = 0.3;
  EXPECT_NE(
      problem().find("answers.jsonl:1: settings is not that of the recipe's answer 1; name another file"),
      std::string::npos)
      << problem();
  spec.temperature = 1;
  std::swap(records[2], records[3]);
  EXPECT_NE(problem().find("answers.jsonl:5: prompt is not that of the recipe's answer 5"), std::string::npos)
      << problem();
  std::swap(records[2], records[3]);
  records.pop_back();
  EXPECT_NE(problem().find("asks for 12 answers, the file has more"), std::string::npos) << problem();
  records.push_back({{}, "text", {}, "y.txt", "", 0});
  EXPECT_NE(problem().find("y.txt: a plain text has no prompt"), std::string::npos) << problem();
}

}  // namespace
}  // namespace retort
