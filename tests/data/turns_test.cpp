#include "data/turns.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/temporary_folder.h"
#include "data/token_store.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

ByteTokenizer tokenizer_of_all() {
  return ByteTokenizer({"<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>", "</s>", "[INST]",
                        "[/INST]", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
                        "<｜end▁of▁sentence｜>"});
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
  spec.held_out.fraction = 0;
  return spec;
}

std::string text_of(const std::vector<int32_t>& tokens, const Tokenizer& tokenizer) {
  std::string text;
  for (const auto id : tokens) text += tokenizer.token_text(id);
  return text;
}

// Everything up to what is learned, and what is learned.
std::pair<std::string, std::string> learned(const Sample& sample, const Tokenizer& tokenizer) {
  std::string before, text;
  for (size_t i = 0; i < sample.tokens.size(); ++i)
    if (sample.weights[i] > 0) text += tokenizer.token_text(sample.tokens[i]);
    else if (text.empty()) before += tokenizer.token_text(sample.tokens[i]);
  return {before, text};
}

const std::vector<Message> kColours = {
    {"user", "colour"}, {"assistant", "red"}, {"user", "number"}, {"assistant", "one"}};

TEST(Turns, EachAnswerIsLearnedBehindThePromptThatGenerationProduces) {
  const auto tokenizer = tokenizer_of_all();
  auto thinking = kColours;
  thinking[1].content = "<think>\nwarm\n</think>\n\nred";
  thinking[3].content = "<think>\nfew\n</think>\n\none";
  auto system = kColours;
  system.insert(system.begin(), {"system", "be brief"});
  const std::tuple<const char*, std::vector<Message>, size_t> cases[] = {
      {"qwen3", kColours, 2},    {"qwen3-thinking", thinking, 2}, {"deepseek-r1", thinking, 2},
      {"mistral-v3", system, 2}, {"mistral-v3", kColours, 1},     {"mistral-v1", system, 1},
      {"chatml", kColours, 1},   {"chatml", thinking, 1},         {"deepseek-v3", kColours, 1}};
  for (const auto& [name, messages, count] : cases) {
    const auto& chat = *find_chat_template(name);
    const auto data = build_dataset(one_source(), {talk(messages)}, tokenizer, chat);
    ASSERT_EQ(data.train.size(), count) << name;
    EXPECT_EQ(data.counts.changed_answers, static_cast<int64_t>(count) - 1) << name;
    if (count == 1) continue;
    EXPECT_EQ(data.train[1].id, "f:1#answer1") << name;
    const auto upto = std::vector<Message>(messages.begin(), messages.end() - 3);
    const auto prompt = text_of(render_tokens(chat, tokenizer, upto, true).tokens, tokenizer);
    const auto [before, answer] = learned(data.train[1], tokenizer);
    EXPECT_EQ(before, prompt) << name;
    EXPECT_NE(answer.find("red"), std::string::npos) << name;
    const auto [first, last] = learned(data.train[0], tokenizer);
    EXPECT_EQ(last.find("red"), std::string::npos) << name;
    EXPECT_NE(last.find("one"), std::string::npos) << name;
  }
}

TEST(Turns, ChangedAnswersMayBeLeftOutInstead) {
  auto spec = one_source();
  spec.changed_answers = "leave_out";
  const auto tokenizer = tokenizer_of_all();
  const auto data = build_dataset(spec, {talk(kColours)}, tokenizer, *find_chat_template("qwen3"));
  ASSERT_EQ(data.train.size(), 1u);
  EXPECT_EQ(data.counts.changed_answers, 1);
  EXPECT_EQ(learned(data.train[0], tokenizer).second, "one<|im_end|>");
}

TEST(Turns, OtherLossesStayAsTheyAre) {
  for (const char* loss : {"last_answer", "all"}) {
    auto spec = one_source();
    spec.loss = loss;
    const auto data = build_dataset(spec, {talk(kColours)}, tokenizer_of_all(), *find_chat_template("qwen3"));
    EXPECT_EQ(data.train.size(), 1u) << loss;
    EXPECT_EQ(data.counts.changed_answers, 0) << loss;
  }
}

TEST(Turns, AnswersThatTheRecordLeavesOutStayOut) {
  auto messages = kColours;
  messages[1].learned = Learned::nothing;
  const auto data =
      build_dataset(one_source(), {talk(messages)}, tokenizer_of_all(), *find_chat_template("qwen3"));
  EXPECT_EQ(data.train.size(), 1u);
  messages = kColours;
  messages[3].learned = Learned::nothing;  // then the whole conversation has nothing to learn
  const auto tokenizer = tokenizer_of_all();
  const auto other = build_dataset(one_source(), {talk(messages)}, tokenizer, *find_chat_template("qwen3"));
  ASSERT_EQ(other.train.size(), 1u);
  EXPECT_EQ(learned(other.train[0], tokenizer).second, "red<|im_end|>");
}

TEST(Turns, DroppedThoughtsAreCounted) {
  const auto tokenizer = tokenizer_of_all();
  auto messages = kColours;
  messages[1].content = "<think>\nwarm\n</think>\n\nred";
  const auto count = [&](const char* name) {
    return build_dataset(one_source(), {talk(messages)}, tokenizer, *find_chat_template(name))
        .counts.dropped_thoughts;
  };
  EXPECT_EQ(count("chatml"), 0);
  EXPECT_EQ(count("qwen3-thinking"), 0);  // its own sample has it
  EXPECT_EQ(count("deepseek-r1"), 0);
  EXPECT_EQ(count("deepseek-v3"), 1);
  EXPECT_EQ(count("qwen3"), 1);
}

TEST(Turns, HeldOutAnswersAreAskedWhereTheyStandAndATokenStoreGivesTheSame) {
  TemporaryFolder folder;
  const auto tokenizer = tokenizer_of_all();
  const auto& chat = *find_chat_template("qwen3");
  DataSpec spec;
  spec.sources.resize(2);
  spec.sources[0].path = folder.write(
      "h.jsonl", R"({"messages":[{"role":"user","content":"colour"},{"role":"assistant","content":"red"},)"
                 R"({"role":"user","content":"number"},{"role":"assistant","content":"one"}]})");
  spec.sources[0].use = "held_out";
  spec.sources[1].path = folder.write("t.jsonl", R"({"prompt":"a","completion":"b"})");
  spec.sources[1].use = "train";
  spec.cache = folder / "t.h5";
  for (const bool cached : {false, true}) {
    bool from_cache = false;
    const auto data = load_dataset(spec, tokenizer, chat, &from_cache);
    EXPECT_EQ(from_cache, cached);
    ASSERT_EQ(data.held_out_records.size(), 2u);
    EXPECT_EQ(data.held_out_records[0].completion(), "one");
    EXPECT_EQ(data.held_out_records[1].completion(), "red");
    EXPECT_EQ(data.held_out_records[1].prompt().size(), 1u);
    EXPECT_EQ(data.held_out_records[1].place, data.held_out[1].id);
    EXPECT_EQ(data.counts.changed_answers, 1);
  }
}

}  // namespace
}  // namespace retort
