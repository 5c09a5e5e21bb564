#include "distill/own_answers.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "models/golden_llama.h"  // tests/models
#include "text/byte_tokenizer.h"  // tests/text

namespace retort {
namespace {

class OwnAnswersTest : public testing::Test {
 protected:
  OwnAnswersTest() {
    const Draws draws(1, "prompts");
    for (uint64_t p = 0; p < 6; ++p) {
      prompts.emplace_back();
      for (uint64_t i = 0; i < 5 + p; ++i)
        prompts.back().push_back(static_cast<int32_t>(3 + draws.below(p * 100 + i, 90)));
    }
  }
  std::vector<Sample> answers(const Model& model, uint64_t seed, const StopRules& stops = {}) const {
    return own_answers({.max_tokens = 12}, {model}, prompts, {tokenizer, stops, {.threads = 2}, seed});
  }

  const std::unique_ptr<Model> teacher = golden_llama().model, student = golden_llama(5, 0.5).model;
  const int64_t vocabulary = teacher->head.linear.weight.rows;
  const ByteTokenizer tokenizer{{}};
  std::vector<std::vector<int32_t>> prompts;
};

TEST_F(OwnAnswersTest, EqualTheMeanOverAllTheirTokensFromFullLogits) {
  auto asked = answers(*student, 3);
  asked.push_back(asked.front());  // what is said twice counts twice
  const auto measured = measure_own_answers({*teacher}, {*student}, asked, {tokenizer, vocabulary, 2});

  const at::NoGradGuard no_graph;
  double sum = 0;
  int64_t tokens = 0;
  for (const auto& sample : asked) {  // one text at a time, all of its rows, in fp64 from the logits on
    Forest text;
    text.add_segment(sample.tokens);
    const auto pass = make_pass(text, at::kFloat);
    std::vector<int32_t> rows;
    for (size_t row = 0; row + 1 < sample.tokens.size(); ++row)
      if (sample.weights[row + 1] == 1) rows.push_back(static_cast<int32_t>(row));
    const auto log_of = [&](const Model& model) {
      return logits(model.hidden(pass), rows, model.head, pass).to(at::kDouble).log_softmax(-1);
    };
    const auto log_q = log_of(*student), log_p = log_of(*teacher);
    sum += (log_q.exp() * (log_q - log_p)).sum().item<double>();
    tokens += static_cast<int64_t>(rows.size());
  }
  EXPECT_EQ(measured.answers, 7);
  EXPECT_EQ(measured.tokens, 7 * 12);
  EXPECT_EQ(measured.tokens, tokens);
  EXPECT_NEAR(measured.reverse_kl, sum / static_cast<double>(tokens), 1e-5);
  EXPECT_GT(measured.reverse_kl, 1e-2);
}

TEST_F(OwnAnswersTest, OfTheTeacherItselfDivergeNowhere) {
  const auto measured =
      measure_own_answers({*teacher}, {*teacher}, answers(*teacher, 3), {tokenizer, vocabulary, 1});
  EXPECT_EQ(measured.tokens, 6 * 12);
  EXPECT_NEAR(measured.reverse_kl, 0, 1e-9);
}

TEST_F(OwnAnswersTest, OneSeedGivesEqualAnswersAndAnotherOthers) {
  const auto tokens = [&](const Model& model, uint64_t seed) {
    std::vector<std::vector<int32_t>> all;
    for (const auto& sample : answers(model, seed)) all.push_back(sample.tokens);
    return all;
  };
  EXPECT_EQ(tokens(*student, 3), tokens(*student, 3));
  EXPECT_NE(tokens(*student, 3), tokens(*student, 4));
  EXPECT_NE(tokens(*student, 3), tokens(*teacher, 3));  // each model's own
}

TEST_F(OwnAnswersTest, EveryTokenAfterThePromptIsSupervisedAndTheEndIsOne) {
  StopRules stops;
  for (int32_t token = 0; token < vocabulary; token += 3) stops.tokens.push_back(token);  // a third of all
  const auto free = answers(*student, 3), ended = answers(*student, 3, stops);
  int64_t shorter = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto& [tokens, weights, id] = ended[i];
    ASSERT_GT(tokens.size(), prompts[i].size());
    ASSERT_EQ(tokens.size(), weights.size());
    for (size_t t = 0; t < tokens.size(); ++t) EXPECT_EQ(weights[t], t < prompts[i].size() ? 0 : 1);
    for (size_t t = 0; t + 1 < tokens.size(); ++t)
      EXPECT_EQ(tokens[t], free[i].tokens[t]);  // the same draws until it ends
    if (tokens.size() == free[i].tokens.size()) continue;
    EXPECT_EQ(free[i].tokens[tokens.size() - 1] % 3, 0);  // where a token that ends was drawn
    EXPECT_EQ(tokens.back(), stops.tokens.front());
    ++shorter;
  }
  EXPECT_GT(shorter, 0);
}

}  // namespace
}  // namespace retort
