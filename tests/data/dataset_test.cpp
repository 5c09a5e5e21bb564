#include "data/dataset.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const ChatTemplate& chatml() { return *find_chat_template("chatml"); }

std::string supervised(const Sample& sample, const ByteTokenizer& tokenizer) {
  std::string out;
  for (size_t i = 0; i < sample.tokens.size(); ++i)
    if (sample.weights[i] > 0) out += tokenizer.token_text(sample.tokens[i]);
  return out;
}

Record talk(std::vector<Message> messages) {
  Record record;
  record.messages = std::move(messages);
  record.place = "f:1";
  return record;
}

DataSpec one_source() {
  DataSpec spec;
  spec.sources.emplace_back();
  return spec;
}

std::vector<Record> numbered(int count) {
  std::vector<Record> records;
  for (int i = 0; i < count; ++i) {
    records.push_back(
        talk({{"user", "question " + std::to_string(i)}, {"assistant", "answer " + std::to_string(i)}}));
    records.back().place = "f:" + std::to_string(i + 1);
  }
  return records;
}

TEST(Dataset, LossModesChooseTheTokens) {
  const auto tokenizer = chat_tokenizer();
  const auto record = talk({{"user", "q"}, {"assistant", "a"}, {"user", "r"}, {"assistant", "b"}});
  auto spec = one_source();
  EXPECT_EQ(supervised(make_sample(spec, record, tokenizer, chatml()), tokenizer), "a<|im_end|>b<|im_end|>");
  spec.loss = "last_answer";
  EXPECT_EQ(supervised(make_sample(spec, record, tokenizer, chatml()), tokenizer), "b<|im_end|>");
  spec.loss = "all";
  const auto all = make_sample(spec, record, tokenizer, chatml());
  EXPECT_EQ(supervised(all, tokenizer).size() + std::string("<|im_start|>").size(),
            tokenizer.decode(all.tokens, false).size());
  EXPECT_EQ(all.weights[0], 0);
}

TEST(Dataset, TextsGetBosByTheTokenizersConventionAndAlwaysEos) {
  auto tokenizer = chat_tokenizer();
  Record record;
  record.text = "ab";
  EXPECT_EQ(make_sample(one_source(), record, tokenizer, chatml()).tokens,
            (std::vector<int32_t>{'a', 'b', 257}));
  tokenizer.add_bos = true;
  const auto sample = make_sample(one_source(), record, tokenizer, chatml());
  EXPECT_EQ(sample.tokens, (std::vector<int32_t>{258, 'a', 'b', 257}));
  EXPECT_EQ(sample.weights, (std::vector<float>{0, 1, 1, 1}));
}

TEST(Dataset, PromptTokensArePrefixOfTheSample) {
  const auto tokenizer = chat_tokenizer();
  const auto record = talk({{"user", "q"}, {"assistant", "a"}});
  const auto prompt = prompt_tokens(record, tokenizer, chatml());
  const auto sample = make_sample(one_source(), record, tokenizer, chatml());
  ASSERT_LT(prompt.size(), sample.tokens.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), sample.tokens.begin()));
  EXPECT_EQ(sample.weights[prompt.size()], 1);
  EXPECT_EQ(sample.weights[prompt.size() - 1], 0);
}

TEST(Split, DependsOnContentOnlyNotOnOrderOrPlace) {
  auto spec = one_source();
  spec.held_out.fraction = 0.2;
  auto records = numbered(1000);
  const auto held = held_out_records(spec, records);
  const auto count = std::count(held.begin(), held.end(), true);
  EXPECT_NEAR(static_cast<double>(count), 200, 40);  // 3 sigma of a binomial: 38
  std::set<std::string> names;
  for (size_t i = 0; i < records.size(); ++i)
    if (held[i]) names.insert(records[i].completion());
  std::reverse(records.begin(), records.end());
  for (auto& record : records) record.place = "elsewhere";
  const auto again = held_out_records(spec, records);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(again[i], names.count(records[i].completion()) == 1);
  spec.seed = 8;
  EXPECT_NE(held_out_records(spec, records), again);
}

TEST(Split, CountIsExactAndGroupsStayTogether) {
  auto spec = one_source();
  spec.held_out.count = 17;
  auto records = numbered(100);
  auto held = held_out_records(spec, records);
  EXPECT_EQ(std::count(held.begin(), held.end(), true), 17);
  for (size_t i = 0; i < records.size(); ++i) records[i].group = std::to_string(i / 10);
  held = held_out_records(spec, records);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(held[i], held[i / 10 * 10]);
  EXPECT_EQ(std::count(held.begin(), held.end(), true), 20);
}

TEST(Split, SourcesMayBeBoundToASide) {
  auto spec = one_source();
  spec.sources.emplace_back();
  spec.sources[0].use = "train";
  spec.sources[1].use = "held_out";
  auto records = numbered(20);
  for (size_t i = 10; i < 20; ++i) records[i].source = 1;
  const auto data = build_dataset(spec, records, chat_tokenizer(), chatml());
  EXPECT_EQ(data.train.size(), 10u);
  EXPECT_EQ(data.held_out.size(), 10u);
  EXPECT_EQ(data.held_out_records[0].completion(), "answer 10");
}

TEST(Dataset, WeightsRepeatOrThinOutTrainingOnly) {
  auto spec = one_source();
  spec.held_out.fraction = 0;
  spec.sources[0].weight = 2.5;
  auto data = build_dataset(spec, numbered(400), chat_tokenizer(), chatml());
  EXPECT_NEAR(static_cast<double>(data.train.size()), 1000, 40);  // 400 * 2.5, sigma 10
  spec.sources[0].weight = 0.25;
  data = build_dataset(spec, numbered(400), chat_tokenizer(), chatml());
  EXPECT_NEAR(static_cast<double>(data.train.size()), 100, 30);
  EXPECT_EQ(data.counts.left_out + static_cast<int64_t>(data.train.size()), 400);
}

TEST(Length, PoliciesAreCountedAndAnswersAreNeverCut) {
  auto spec = one_source();
  spec.held_out.fraction = 0;
  spec.sample_tokens = 64;
  auto records = numbered(2);
  records.push_back(talk({{"system", "short"},
                          {"user", std::string(80, 'x') + "\xC3\xA9\xC3\xA9"},
                          {"assistant", "the answer"}}));
  EXPECT_THROW(build_dataset(spec, records, chat_tokenizer(), chatml()), RecipeError);
  spec.length = "skip";
  auto data = build_dataset(spec, records, chat_tokenizer(), chatml());
  EXPECT_EQ(data.train.size(), 2u);
  EXPECT_EQ(data.counts.skipped_long, 1);
  spec.length = "cut";
  data = build_dataset(spec, records, chat_tokenizer(), chatml());
  ASSERT_EQ(data.train.size(), 3u);
  EXPECT_EQ(data.counts.cut, 1);
  EXPECT_LE(data.train[2].tokens.size(), 64u);
  EXPECT_GE(data.train[2].tokens.size(), 60u);
  EXPECT_EQ(supervised(data.train[2], chat_tokenizer()), "the answer<|im_end|>");
  records.push_back(talk({{"user", "q"}, {"assistant", std::string(100, 'a')}}));
  data = build_dataset(spec, records, chat_tokenizer(), chatml());
  EXPECT_EQ(data.train.size(), 3u);
  EXPECT_EQ(data.counts.skipped_long, 1);  // nothing to cut but the answer
}

TEST(Length, ACutKeepsTheSideThatIsAskedFor) {
  auto spec = one_source();
  spec.held_out.fraction = 0;
  spec.sample_tokens = 64;
  spec.length = "cut";
  std::string document = "BEGIN ";
  for (int i = 0; i < 20; ++i) document += std::to_string(10 + i) + "\u00e9 ";
  document += "END?";
  const auto user = [&](const std::string& keep) {
    spec.keep = keep;
    const auto data =
        build_dataset(spec, {talk({{"user", document}, {"assistant", "yes"}})}, chat_tokenizer(), chatml());
    EXPECT_EQ(data.counts.cut, 1);
    EXPECT_LE(data.train[0].tokens.size(), 64u);
    EXPECT_GE(data.train[0].tokens.size(), 60u);
    const auto text = chat_tokenizer().decode(data.train[0].tokens, false);
    const auto begin = text.find("user\n") + 5;
    return text.substr(begin, text.find("<|im_end|>") - begin);
  };
  EXPECT_TRUE(user("start").starts_with("BEGIN 10"));
  EXPECT_TRUE(user("end").ends_with("29\u00e9 END?"));
  EXPECT_EQ(user("end").find("BEGIN"), std::string::npos);
  EXPECT_TRUE(user("ends").starts_with("BEGIN 1"));
  EXPECT_TRUE(user("ends").ends_with("END?"));
  EXPECT_NE(user("middle").find("19\u00e9 20"), std::string::npos);
  EXPECT_EQ(user("middle").find("BEGIN"), std::string::npos);
}

TEST(Length, ACutNeverLeavesAnEmptyMessage) {
  auto spec = one_source();
  spec.held_out.fraction = 0;
  spec.sample_tokens = 64;
  spec.length = "cut";
  // The answer alone leaves no room for a word of the question.
  const auto data = build_dataset(spec,
                                  {talk({{"user", "q"}, {"assistant", "a"}}),
                                   talk({{"user", "what?"}, {"assistant", std::string(60, 'a')}})},
                                  chat_tokenizer(), chatml());
  EXPECT_EQ(data.train.size(), 1u);
  EXPECT_EQ(data.counts.skipped_long, 1);
  EXPECT_EQ(data.counts.cut, 0);
}

TEST(Length, SplitTextsPredictEveryTokenOnce) {
  auto spec = one_source();
  spec.held_out.fraction = 0;
  spec.sample_tokens = 8;
  spec.length = "split";
  Record record;
  record.text = "abcdefghijklmnopqrst";  // 20 tokens and EOS
  record.place = "f";
  const auto data = build_dataset(spec, {record}, chat_tokenizer(), chatml());
  ASSERT_EQ(data.train.size(), 3u);  // 8 + 7 + 6 new tokens
  std::string predicted;
  for (const auto& sample : data.train) predicted += supervised(sample, chat_tokenizer());
  EXPECT_EQ(predicted, "bcdefghijklmnopqrst<|im_end|>");
  EXPECT_EQ(data.train[1].id, "f#2");
}

TEST(Dataset, ErrorsNameThePlaceAndNeverTheText) {
  auto spec = one_source();
  auto records = numbered(1);
  records[0].messages[0].content = "CANARY";
  ByteTokenizer bare({});
  try {
    build_dataset(spec, records, bare, chatml());
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("f:1: "), std::string::npos);
    EXPECT_EQ(std::string(error.what()).find("CANARY"), std::string::npos);
  }
}

}  // namespace
}  // namespace retort
