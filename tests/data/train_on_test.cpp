#include "data/train_on.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

Record conversation(std::vector<Message> messages) {
  Record record;
  record.messages = std::move(messages);
  record.place = "x:1";
  return record;
}

DataSpec with(TrainOnSpec spec) {
  DataSpec data;
  data.sources.resize(1);
  data.train_on = std::move(spec);
  data.held_out.fraction = 0;
  return data;
}

// What is learned of the records, one sample behind the other.
std::string learned(const DataSpec& spec, const std::vector<Record>& records,
                    const ChatTemplate& chat = *find_chat_template("chatml")) {
  std::string text;
  for (const auto& sample : build_dataset(spec, records, chat_tokenizer(), chat).train) {
    std::string one;
    for (size_t i = 0; i < sample.tokens.size(); ++i) {
      const auto id = sample.tokens[i];
      if (sample.weights[i] > 0) one += chat_tokenizer().token_text(id);
      else if (!one.empty() && one.back() != '.') one += '.';
    }
    text += one + "/";
  }
  return text;
}

std::string problem(const DataSpec& spec, const std::vector<Record>& records) {
  try {
    learned(spec, records);
  } catch (const Error& error) { return error.what(); }
  return "";
}

const std::vector<Record> kTalk = {conversation(
    {{"system", "be kind"}, {"user", "hi"}, {"assistant", "yo"}, {"user", "so"}, {"assistant", "ok"}})};

TEST(TrainOn, OthersThanTheAssistantAreLearnedByTheirWordsAndTheEndOfTheTurn) {
  EXPECT_EQ(learned(with({}), kTalk), "yo<|im_end|>.ok<|im_end|>./");
  EXPECT_EQ(learned(with({.roles = {"assistant", "user"}}), kTalk),
            "hi<|im_end|>\n.yo<|im_end|>.so<|im_end|>\n.ok<|im_end|>./");
  EXPECT_EQ(learned(with({.roles = {"user"}}), kTalk), "hi<|im_end|>\n.so<|im_end|>\n./");
  EXPECT_EQ(learned(with({.roles = {"system"}}), kTalk), "be kind<|im_end|>\n./");
}

TEST(TrainOn, OnlyTheLastAnswer) {
  EXPECT_EQ(learned(with({.turns = "last"}), kTalk), "ok<|im_end|>./");
  EXPECT_EQ(learned(with({.roles = {"user", "assistant"}, .turns = "last"}), kTalk),
            "hi<|im_end|>\n.so<|im_end|>\n.ok<|im_end|>./");
}

TEST(TrainOn, AMessageThatIsNotToBeLearnedIsNot) {
  auto talk = kTalk;
  talk[0].messages[1].learned = Learned::nothing;
  EXPECT_EQ(learned(with({.roles = {"user"}}), talk), "so<|im_end|>\n./");
}

TEST(TrainOn, CallsOfToolsMayBeReadOnly) {
  const ChatTemplate plain_calls = [] {
    auto chat = *find_chat_template("chatml");
    const auto render = chat.render;
    chat.render = [render](std::vector<Message> messages, bool header) {
      for (auto& message : messages) message.not_carried.clear();
      return render(messages, header);
    };
    return chat;
  }();
  Message call{"assistant", "call"};
  call.fields = R"("tool_calls":[{"function":{"name":"f"}}])";
  call.not_carried = "tool_calls";
  const std::vector<Record> talk = {
      conversation({{"user", "hi"}, call, {"user", "so"}, {"assistant", "ok"}})};
  EXPECT_EQ(learned(with({}), talk, plain_calls), "call<|im_end|>.ok<|im_end|>./");
  EXPECT_EQ(learned(with({.tool_calls = false}), talk, plain_calls), "ok<|im_end|>./");
  auto spec = with({.tool_calls = false});
  EXPECT_NE(problem(spec, {conversation({{"user", "hi"}, call})}).find("x:1: no message is left to learn"),
            std::string::npos);
  spec.sources[0].on_bad_record = "skip";
  const auto data = build_dataset(spec, {conversation({{"user", "hi"}, call}), kTalk[0]}, chat_tokenizer(),
                                  *find_chat_template("chatml"));
  EXPECT_EQ(data.counts.bad, 1);
  EXPECT_EQ(data.train.size(), 1u);
}

// Gemma puts the system text into the first user turn: it has no place of its own.
TEST(TrainOn, WhatTheTemplateMovesIsRefused) {
  const ByteTokenizer tokenizer({"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"});
  const auto spec = with({.roles = {"system", "assistant"}});
  try {
    build_dataset(spec, kTalk, tokenizer, *find_chat_template("gemma3"));
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("message 1: "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("data.train_on.roles"), std::string::npos) << error.what();
  }
}

// A trailing question was cut off once, and the sample learned an answer to nothing.
TEST(Cut, NeverLeavesAnEmptyMessage) {
  const auto record = conversation({{"user", "a long question about fees"}, {"assistant", "yes"}});
  auto spec = with({});
  spec.length = "cut";
  const auto whole = build_dataset(spec, {record}, chat_tokenizer(), *find_chat_template("chatml"));
  const auto least = whole.train[0].tokens.size() - record.messages[0].content.size();
  for (const auto* keep : {"start", "end", "ends", "middle"}) {
    spec.keep = keep;
    spec.sample_tokens = static_cast<int64_t>(least);  // room for an empty question alone
    const auto other = conversation({{"user", "q"}, {"assistant", "y"}});
    const auto data = build_dataset(spec, {record, other}, chat_tokenizer(), *find_chat_template("chatml"));
    EXPECT_EQ(data.train.size(), 1u) << keep;
    EXPECT_EQ(data.counts.skipped_long, 1) << keep;
    EXPECT_EQ(data.counts.cut, 0) << keep;
    spec.sample_tokens = static_cast<int64_t>(least + 8);
    const auto cut = build_dataset(spec, {record}, chat_tokenizer(), *find_chat_template("chatml"));
    EXPECT_EQ(cut.counts.cut, 1) << keep;
  }
}

}  // namespace
}  // namespace retort
