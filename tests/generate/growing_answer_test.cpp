// One answer token by token, from logits made here.
#include "generate/growing_answer.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace retort {
namespace {

// Six tokens; the id 3 has none.
std::unique_ptr<Tokenizer> with_a_hole() {
  const Json vocabulary = {{"a", 0}, {"b", 1}, {"c", 2}, {"d", 4}, {"e", 5}};
  return tokenizer_from_json(
      Json({{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
            {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}})
          .dump(),
      "", "made.json");
}

// Embeddings are padded to round numbers, and ids have gaps: their logits are whatever the matrix says.
TEST(GrowingAnswer, NeverTakesAnIdWithoutAToken) {
  const auto tokenizer = with_a_hole();
  ASSERT_EQ(tokenizer->size(), 6);
  EXPECT_EQ(tokenizer->holes(), std::vector<int32_t>{3});
  const std::vector<float> made = {0, 0.5f, 3, 50, 1, 2, 40, 60};  // six tokens, two rows of padding
  const AnswerRules greedy;
  GrowingAnswer answer(*tokenizer, greedy, 100, 0, {});
  auto logits = made;
  EXPECT_EQ(answer.take_next(logits, {}), 2);
  AnswerRules drawn;
  drawn.sample.temperature = 20;
  drawn.sample.repetition_penalty = 1.1;
  GrowingAnswer other(*tokenizer, drawn, 1000, 0, {1, 3, 6});
  for (int i = 0; i < 300; ++i) {
    logits = made;
    const auto token = other.take_next(logits, {});
    ASSERT_TRUE(token && *token < 6 && *token != 3) << i;
  }
}

}  // namespace
}  // namespace retort
