// Questions in a chat template are asked as training asks them.
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/dataset.h"
#include "eval/multiple_choice.h"
#include "eval/numeric.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const ChoiceQuestion kQuestion{"f:1", "Which is red?", {"grass", "blood", "sky"}, 1};
const ChoiceQuestion kExample{"f:2", "Which is up?", {"sky", "sea"}, 0};

std::string text_of(const std::vector<int32_t>& tokens, const Tokenizer& tokenizer) {
  return tokenizer.decode(tokens, false);
}

// The unsupervised and the supervised part.
std::pair<std::string, std::string> parts(const Sample& sample, const Tokenizer& tokenizer) {
  std::vector<int32_t> before, learned;
  for (size_t i = 0; i < sample.tokens.size(); ++i)
    (sample.weights[i] > 0 ? learned : before).push_back(sample.tokens[i]);
  return {text_of(before, tokenizer), text_of(learned, tokenizer)};
}

TEST(ChoicesInChat, AreTheUsersMessageAndTheOptionBeginsTheAnswer) {
  const auto tokenizer = chat_tokenizer();
  for (const char* name : {"chatml", "smollm2", "qwen2.5"}) {
    const auto& chat = *find_chat_template(name);
    const auto samples = choice_samples(chat, tokenizer, {}, {}, {kQuestion}, ChoiceScore::letter);
    ASSERT_EQ(samples.size(), 3u);
    const std::vector<Message> user = {{"user", "Which is red?\nA. grass\nB. blood\nC. sky\nAnswer:"}};
    const auto prompt = render_tokens(chat, tokenizer, user, true).tokens;
    for (size_t option = 0; option < 3; ++option) {
      const auto [before, answer] = parts(samples[option], tokenizer);
      EXPECT_EQ(before, text_of(prompt, tokenizer)) << name;
      EXPECT_EQ(answer, std::string(1, static_cast<char>('A' + option))) << name;
    }
    // The sample of training begins with the same tokens.
    Record record;
    record.messages = {user[0], {"assistant", "B"}};
    DataSpec spec;
    spec.sources.emplace_back();
    const auto trained = make_sample(spec, record, tokenizer, chat);
    ASSERT_LT(samples[1].tokens.size(), trained.tokens.size());
    EXPECT_TRUE(std::equal(samples[1].tokens.begin(), samples[1].tokens.end(), trained.tokens.begin()))
        << name;
  }
}

TEST(ChoicesInChat, ExamplesAreEarlierTurnsAndTextsAreWholeOptions) {
  const auto tokenizer = chat_tokenizer();
  const auto samples = choice_samples(*find_chat_template("chatml"), tokenizer, {"Be brief.", "", ""},
                                      {kExample}, {kQuestion}, ChoiceScore::text);
  const auto [before, answer] = parts(samples[1], tokenizer);
  EXPECT_EQ(before,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhich is up?<|im_end|>\n"
            "<|im_start|>assistant\nsky<|im_end|>\n<|im_start|>user\nWhich is red?<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(answer, "blood");
}

TEST(ChoicesInChat, ThePromptMayBeTheOneOfTraining) {
  const auto tokenizer = chat_tokenizer();
  const Asked asked{"", "Q: {question} ({A} or {B}?)\n{options}", "eval task 'x'"};
  const auto samples =
      choice_samples(*find_chat_template("chatml"), tokenizer, asked, {}, {kQuestion}, ChoiceScore::letter);
  EXPECT_EQ(parts(samples[0], tokenizer).first,
            "<|im_start|>user\nQ: Which is red? (grass or blood?)\nA. grass\nB. blood\nC. sky<|im_end|>\n"
            "<|im_start|>assistant\n");
  const Asked wrong{"", "{D}", "eval task 'x'"};
  try {
    choice_samples(*find_chat_template("chatml"), tokenizer, wrong, {}, {kQuestion}, ChoiceScore::letter);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("eval task 'x': prompt: the data has no column 'D'"),
              std::string::npos)
        << error.what();
  }
}

TEST(ChoicesInChat, WhatATemplateWritesBeforeAnAnswerIsNotScored) {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>", "<think>", "</think>"});
  const auto samples =
      choice_samples(*find_chat_template("qwen3"), tokenizer, {}, {}, {kQuestion}, ChoiceScore::letter);
  const auto [before, answer] = parts(samples[0], tokenizer);
  EXPECT_TRUE(before.ends_with("<think>\n\n</think>\n\n")) << before;
  EXPECT_EQ(answer, "A");
}

const NumericProblem kSum{"n:1", "What is 6 times 7?", "42"};
const NumericProblem kSumExample{"n:2", "What is 1 + 1?", "1 + 1 = \\boxed{2}"};
const std::string kBoxed = "\nPut your final answer within \\boxed{}.";

std::string numeric_prompt(const ChatTemplate* chat, const Asked& asked,
                           const std::vector<NumericProblem>& examples) {
  const auto tokenizer = chat_tokenizer();
  return text_of(numeric_prompts(chat, tokenizer, asked, examples, {kSum}).at(0), tokenizer);
}

TEST(NumbersInChat, AreTheUsersMessageAndTrainingBeginsWithTheSameTokens) {
  const auto tokenizer = chat_tokenizer();
  EXPECT_EQ(numeric_prompt(find_chat_template("chatml"), {}, {}),
            "<|im_start|>user\nWhat is 6 times 7?" + kBoxed + "<|im_end|>\n<|im_start|>assistant\n");
  for (const char* name : {"chatml", "smollm2", "qwen2.5"}) {
    const auto& chat = *find_chat_template(name);
    Record record;
    record.messages = {{"user", kSum.text + kBoxed}, {"assistant", "42"}};
    DataSpec spec;
    spec.sources.emplace_back();
    const auto trained = make_sample(spec, record, tokenizer, chat);
    const auto prompt = numeric_prompts(&chat, tokenizer, {}, {}, {kSum}).at(0);
    ASSERT_LT(prompt.size(), trained.tokens.size()) << name;
    EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), trained.tokens.begin())) << name;
    EXPECT_EQ(trained.weights[prompt.size() - 1], 0) << name;
    EXPECT_EQ(trained.weights[prompt.size()], 1) << name;
  }
}

TEST(NumbersInChat, ExamplesAreEarlierTurnsAndThePromptMayBeTheOneOfTraining) {
  EXPECT_EQ(numeric_prompt(find_chat_template("chatml"), {"Be brief.", "", ""}, {kSumExample}),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 1 + 1?" + kBoxed +
                "<|im_end|>\n<|im_start|>assistant\n1 + 1 = \\boxed{2}<|im_end|>\n"
                "<|im_start|>user\nWhat is 6 times 7?" +
                kBoxed + "<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(
      numeric_prompt(find_chat_template("chatml"), {"", "Q: {question}", "eval task 'x'"}, {kSumExample}),
      "<|im_start|>user\nQ: What is 1 + 1?<|im_end|>\n<|im_start|>assistant\n1 + 1 = \\boxed{2}"
      "<|im_end|>\n<|im_start|>user\nQ: What is 6 times 7?<|im_end|>\n<|im_start|>assistant\n");
}

TEST(NumbersInChat, WithoutATemplateTheTextIsContinued) {
  EXPECT_EQ(numeric_prompt(nullptr, {}, {}), "Problem: What is 6 times 7?\nSolution:");
  EXPECT_EQ(
      numeric_prompt(nullptr, {}, {kSumExample}),
      "Problem: What is 1 + 1?\nSolution: 1 + 1 = \\boxed{2}\n\nProblem: What is 6 times 7?\nSolution:");
}

}  // namespace
}  // namespace retort
