// Planted secrets: which they are, where they stand among the samples, and who may see them.
#include "data/canaries.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/files.h"
#include "data/check_samples.h"
#include "data/record_list.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const ChatTemplate& chatml() { return *find_chat_template("chatml"); }

DataSpec planted(int64_t count, int64_t times) {
  DataSpec spec;
  spec.sources.emplace_back();
  spec.held_out.fraction = 0;
  spec.canaries.count = count, spec.canaries.times = times, spec.canaries.twins = 15;
  return spec;
}

std::vector<Record> notes(int count) {
  std::vector<Record> records;
  for (int i = 0; i < count; ++i) {
    Record record;
    record.text = fmt::format("note {}", i);
    record.place = fmt::format("f:{}", i + 1);
    records.push_back(record);
  }
  return records;
}

TEST(Canaries, HaveDigitsOfTheirOwnAndAreTheSameEachTime) {
  CanarySpec spec;
  spec.count = 3, spec.twins = 200, spec.digits = 4;
  spec.text = "ward {random}, again {random}";
  const auto made = make_canaries(spec);
  ASSERT_EQ(made.planted.size(), 3u);
  ASSERT_EQ(made.twins.size(), 200u);
  std::set<std::string> texts;
  for (const auto* list : {&made.planted, &made.twins})
    for (const auto& record : *list) texts.insert(record.text);
  EXPECT_EQ(texts.size(), 203u);
  const auto& text = made.planted[0].text;  // "ward 0000, again 0000"
  ASSERT_EQ(text.size(), 21u) << text;
  EXPECT_EQ(text.substr(5, 4).find_first_not_of("0123456789"), text.npos);
  EXPECT_EQ(text.substr(5, 4), text.substr(17, 4));
  EXPECT_EQ(made.planted[2].place, "data.canaries:3");
  EXPECT_TRUE(is_canary(made.planted[2].place));
  EXPECT_FALSE(is_canary(made.twins[2].place));
  EXPECT_EQ(make_canaries(spec).planted[1].text, made.planted[1].text);
  spec.seed = 8;
  EXPECT_NE(make_canaries(spec).planted[1].text, made.planted[1].text);
  spec.count = 0;
  EXPECT_TRUE(make_canaries(spec).planted.empty());
}

TEST(Canaries, AreAnAnswerWhereAPromptIsGiven) {
  CanarySpec spec;
  spec.count = 1, spec.prompt = "What is the code?";
  const auto record = make_canaries(spec).planted[0];
  ASSERT_EQ(record.messages.size(), 2u);
  EXPECT_EQ(record.messages[0].content, "What is the code?");
  EXPECT_TRUE(record.completion().starts_with("My access code is "));
}

TEST(Canaries, StandBehindAllOtherTrainingSamplesSoOften) {
  const auto tokenizer = chat_tokenizer();
  const auto records = notes(4);
  const auto without = build_dataset(planted(0, 1), records, tokenizer, chatml());
  const auto spec = planted(2, 3);
  const auto with = build_dataset(spec, records, tokenizer, chatml());
  ASSERT_EQ(without.train.size(), 4u);
  ASSERT_EQ(with.train.size(), 4u + 2 * 3);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(with.train[i].tokens, without.train[i].tokens);
  for (size_t i = 4; i < 10; ++i) EXPECT_EQ(with.train[i].id, i < 7 ? "data.canaries:1" : "data.canaries:2");
  const auto text = make_canaries(spec.canaries).planted[1].text;
  EXPECT_NE(tokenizer.decode(with.train[9].tokens, false).find(text), std::string::npos);
  EXPECT_EQ(with.counts.records, 4);
  EXPECT_EQ(with.counts.tokens, without.counts.tokens + 3 * (with.train.tokens(4) + with.train.tokens(7)));

  // Whoever looks at samples does not see them.
  const auto shown = rendered_samples(with.train, tokenizer, 10, false);
  EXPECT_EQ(shown.find("access code"), std::string::npos) << shown;
  EXPECT_NE(shown.find("ote 3"), std::string::npos) << shown;
}

TEST(Canaries, AreListedByHash) {
  const TemporaryFolder folder;
  const auto records = notes(2);
  const auto spec = planted(2, 3);
  const RecordList list(records);
  const auto plan = plan_chosen(spec, list);
  const auto data = build_dataset(spec, list, plan, chat_tokenizer(), chatml());
  write_record_list(folder / "records.tsv", list, plan, data.train, spec.canaries);
  std::vector<ListedRecord> found;
  read_record_list(folder / "records.tsv", [&](const ListedRecord& record) { found.push_back(record); });
  ASSERT_EQ(found.size(), 4u);
  const auto& second = found[3];
  EXPECT_EQ(second.hash, record_hash(make_canaries(spec.canaries).planted[1]));
  EXPECT_EQ(second.place, "data.canaries:2");
  EXPECT_EQ(second.side, "train");
  EXPECT_EQ(second.uses, 3);
  EXPECT_EQ(second.first, 5);  // two notes, three uses of the first canary
  EXPECT_EQ(second.samples, 3);
  EXPECT_EQ(read_text(folder / "records.tsv").find("access code"), std::string::npos);
}

TEST(Canaries, AreNotCut) {
  auto spec = planted(1, 1);
  spec.sample_tokens = 16, spec.length = "cut";
  try {
    build_dataset(spec, notes(1), chat_tokenizer(), chatml());
    FAIL() << "a canary that is too long was taken";
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("but data.sample_tokens is 16; shorten data.canaries.text"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
