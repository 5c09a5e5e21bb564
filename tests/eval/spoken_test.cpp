// What of an answer is compared: without its thought, whatever marks that.
#include <gtest/gtest.h>

#include "eval/subject.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

// Of words and control tokens; those have no bytes.
Answer answer_of(const Tokenizer& tokenizer, const std::vector<std::string>& parts,
                 Finish finish = Finish::stop_token) {
  Answer answer;
  answer.finish = finish;
  for (const auto& part : parts) {
    if (const auto id = tokenizer.find(part)) {
      answer.tokens.push_back(*id);
      continue;
    }
    for (const auto id : tokenizer.encode(part)) answer.tokens.push_back(id);
    answer.text += part;
  }
  return answer;
}

TEST(Spoken, MarksThatAreControlTokensEndAThoughtToo) {
  const ByteTokenizer made({"[THINK]", "[/THINK]", "<|other|>", "[R]", "[/R]"});
  const Tokenizer& tokenizer = made;
  const auto said = [&](const std::vector<std::string>& parts, const ThoughtMarks& own = {},
                        const std::string& prompt = "q") {
    const auto answer = answer_of(tokenizer, parts);
    std::vector<int32_t> ids = tokenizer.encode(prompt);
    if (const auto id = tokenizer.find(prompt)) ids = {*id};
    return spoken(tokenizer, ids, marked_text(tokenizer, answer, own), own);
  };
  EXPECT_EQ(said({"[THINK]", "blue?", "[/THINK]", "red"}), "red");
  EXPECT_EQ(said({"blue?", "[/THINK]", "red"}, {}, "[THINK]"), "red");
  EXPECT_EQ(said({"blue?"}, {}, "[THINK]"), "");
  EXPECT_EQ(said({"re", "<|other|>", "d"}), "red");  // other control tokens are no text
  EXPECT_EQ(said({"[R]", "blue?", "[/R]", "red"}), "blue?red");
  EXPECT_EQ(said({"[R]", "blue?", "[/R]", "red"}, {"[R]", "[/R]"}), "red");
  EXPECT_EQ(said({"blue?", "[/R]"}, {"", "[/R]"}), "");
}

// The tokens of a stop text are an answer's, its bytes are not.
TEST(Spoken, EndsBeforeAStopText) {
  const ByteTokenizer tokenizer({"[THINK]", "[/THINK]"});
  auto answer = answer_of(tokenizer, {"red\nProblem:", "[THINK]", "blue"}, Finish::stop_text);
  answer.text = "red";
  EXPECT_EQ(marked_text(tokenizer, answer, {}), "red");
}

}  // namespace
}  // namespace retort
