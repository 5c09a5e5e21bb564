// What of an answer is compared: without its thought, whatever marks that.
#include <gtest/gtest.h>

#include "eval/numeric.h"
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

// gpt-oss writes which channel it speaks on before every answer, in control tokens.
TEST(Spoken, TheHeaderOfAnAnswerWithoutAThoughtIsNoneOfItsWords) {
  const ByteTokenizer tokenizer({"<|channel|>", "<|message|>", "<|end|>", "<|start|>"});
  const ThoughtMarks own{"<|channel|>analysis<|message|>",
                         "<|end|><|start|>assistant<|channel|>final<|message|>",
                         "<|channel|>final<|message|>"};
  const auto said = [&](const std::vector<std::string>& parts) {
    const auto answer = answer_of(tokenizer, parts);
    return spoken(tokenizer, tokenizer.encode("q", Specials::as_text), marked_text(tokenizer, answer, own),
                  own);
  };
  EXPECT_EQ(said({"<|channel|>", "final", "<|message|>", "red"}), "red");
  EXPECT_EQ(said({"red"}), "red");
  EXPECT_EQ(said({"<|channel|>", "analysis", "<|message|>", "blue?", "<|end|>", "<|start|>", "assistant",
                  "<|channel|>", "final", "<|message|>", "red"}),
            "red");
  EXPECT_EQ(said({"<|channel|>", "analysis", "<|message|>", "blue?"}), "");
}

// A number that was only thought of is no answer: not the model's, and not that of a worked solution.
TEST(Spoken, ABoxInAThoughtIsNoAnswer) {
  const ByteTokenizer made({"[THINK]", "[/THINK]", "[R]", "[/R]"});
  const Tokenizer& tokenizer = made;
  const auto given = [&](const std::vector<std::string>& parts, const ThoughtMarks& own = {},
                         const std::string& prompt = "q") {
    return given_answer(tokenizer, tokenizer.encode(prompt), answer_of(tokenizer, parts), own);
  };
  EXPECT_EQ(given({"<think>Is it \\boxed{7}?</think>\n\nThe answer is 8."}), "8");
  EXPECT_EQ(given({"Is it \\boxed{7}?</think>The answer is 8."}, {}, "assistant\n<think>\n"), "8");
  EXPECT_EQ(given({"Is it \\boxed{7}?"}, {}, "assistant\n<think>\n"), std::nullopt);
  EXPECT_EQ(given({"<think>Is it \\boxed{7}?"}), std::nullopt);
  EXPECT_EQ(given({"[THINK]", "\\boxed{7}", "[/THINK]", "so \\boxed{8}"}), "8");
  EXPECT_EQ(given({"[R]", "\\boxed{7}", "[/R]", "It is 8."}, {"[R]", "[/R]"}), "8");
  EXPECT_EQ(given({"so \\boxed{7}"}), "7");
  EXPECT_EQ(wanted_answer({"n:1", "p", "<think>\\boxed{7}?</think>So it is \\boxed{8}."}, {}), "8");
  EXPECT_EQ(wanted_answer({"n:1", "p", "<r>\\boxed{7}</r>It is 8."}, {"<r>", "</r>"}), "8");
  EXPECT_EQ(wanted_answer({"n:1", "p", "red"}, {}), "red");
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
