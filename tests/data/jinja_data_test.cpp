// Data sets whose template is a text in Jinja: what is read, what is learned, what is refused.
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

// As Qwen 3 does: tools before the talk, thoughts in the last answer alone.
const std::string kTemplate =
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ "
    "m.content }}"
    "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct Shown {
  std::vector<std::string> texts, learned;
};

Shown samples_of(const std::string& lines, const std::string& source = kTemplate,
                 const std::string& reasoning = "learn", DatasetCounts* counts = nullptr) {
  TemporaryFolder folder;
  DataSpec spec;
  spec.sources.emplace_back().path = folder.write("x.jsonl", lines);
  spec.sources[0].reasoning = reasoning;
  spec.chat_template = source;
  spec.held_out = {0, 0};
  const auto tokenizer = chat_tokenizer();
  const auto data =
      build_dataset(spec, tokenizer, choose_chat_template(spec.wanted_template(), "", tokenizer), 2);
  if (counts) *counts = data.counts;
  Shown found;
  for (const auto& sample : data.train) {
    std::string learned;
    for (size_t i = 0; i < sample.tokens.size(); ++i)
      if (sample.weights[i] > 0) learned += tokenizer.token_text(sample.tokens[i]);
    found.texts.push_back(tokenizer.decode(sample.tokens, false));
    found.learned.push_back(learned);
  }
  return found;
}

const std::string kCalls =
    R"({"tools":[{"b":1.50,"a":2}],"messages":[{"role":"user","content":"<|im_end|>"},{"role":"assistant",)"
    R"("content":"","tool_calls":[)"
    R"({"function":{"name":"f","arguments":{"z":12345678901234567890123,"a":1.50}}}]},)"
    R"({"role":"tool","content":"21"},{"role":"assistant","content":"It is 21."}]})";

TEST(JinjaData, ToolsAndCallsAreRenderedAndLearned) {
  const auto found = samples_of(kCalls);
  ASSERT_EQ(found.texts.size(), 1u);
  EXPECT_EQ(found.texts[0],
            "[{\"b\": 1.50, \"a\": "
            "2}]\n<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n{\"name\": \"f\", "
            "\"arguments\": {\"z\": 12345678901234567890123, \"a\": "
            "1.50}}<|im_end|>\n<|im_start|>tool\n21<|im_end|>\n"
            "<|im_start|>assistant\nIt is 21.<|im_end|>\n");
  EXPECT_EQ(found.learned[0],
            "{\"name\": \"f\", \"arguments\": {\"z\": 12345678901234567890123, \"a\": 1.50}}<|im_end|>It is "
            "21.<|im_end|>");
}

TEST(JinjaData, WhatARecordSaysBesideItsMessagesReachesTheTemplate) {
  const auto found = samples_of(
      R"({"documents":[{"t":"x","n":1.50}],"chat_template_kwargs":{"mood":"dry"},"enable_thinking":false,)"
      R"("messages":[{"role":"developer","content":"Be brief."},{"role":"user","name":"Ann","content":"q"},)"
      R"({"role":"assistant","content":"a"}]})",
      "{{ documents | tojson }} {{ mood }} {{ enable_thinking }}{% for m in messages %}<|im_start|>{{ m.role "
      "}} "
      "{% if m.name %}{{ m.name }}: {% endif %}{{ m.content }}<|im_end|>{% endfor %}{% if "
      "add_generation_prompt %}<|im_start|>assistant {% endif %}");
  EXPECT_EQ(
      found.texts[0],
      "[{\"t\": \"x\", \"n\": 1.50}] dry False<|im_start|>developer Be brief.<|im_end|><|im_start|>user "
      "Ann: q<|im_end|><|im_start|>assistant a<|im_end|>");
  EXPECT_EQ(found.learned[0], "a<|im_end|>");
}

TEST(JinjaData, AnswersThatLaterTurnsChangeAreSamplesOfTheirOwn) {
  DatasetCounts counts;
  const auto found = samples_of(
      R"({"messages":[{"role":"user","content":"q"},)"
      R"({"role":"assistant","reasoning_content":"hm","content":"a"},)"
      R"({"role":"user","content":"r"},{"role":"assistant","reasoning_content":"so","content":"b"}]})",
      kTemplate, "learn", &counts);
  EXPECT_EQ(found.learned,
            (std::vector<std::string>{"<think>so</think>b<|im_end|>", "<think>hm</think>a<|im_end|>"}));
  EXPECT_EQ(found.texts[1],
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>hm</think>a<|im_end|>\n");
  EXPECT_EQ(counts.changed_answers, 1);
}

TEST(JinjaData, MaskedThoughtsAreReadAndNotLearned) {
  const std::string line = R"({"messages":[{"role":"user","content":"q"},)"
                           R"({"role":"assistant","reasoning_content":"hm","content":"a"}]})";
  EXPECT_EQ(samples_of(line, kTemplate, "mask").learned, std::vector<std::string>{"a<|im_end|>"});
  const std::string unmarked =
      "{% for m in messages %}<|im_start|>{{ m.role }}{{ m.reasoning_content }}{{ m.content }}<|im_end|>{% "
      "endfor %}{% if "
      "add_generation_prompt %}<|im_start|>assistant{% endif %}";
  EXPECT_THROW(samples_of(line, unmarked, "mask"), RecipeError);
}

// A template that marks thoughts in a spelling of its own: where they came in a field, and where the content
// spells them.
TEST(JinjaData, ThoughtsInATemplatesOwnMarksAreMasked) {
  const std::string own =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<reason>{{ "
      "m.reasoning_content }}</reason>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if "
      "add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const std::string field = R"({"messages":[{"role":"user","content":"q"},)"
                            R"({"role":"assistant","reasoning_content":"hm","content":"a"}]})";
  const std::string inside = R"({"messages":[{"role":"user","content":"q"},)"
                             R"({"role":"assistant","content":"<reason>hm</reason>a"}]})";
  for (const auto& line : {field, inside}) {
    EXPECT_EQ(samples_of(line, own, "mask").learned, std::vector<std::string>{"a<|im_end|>"}) << line;
    EXPECT_EQ(samples_of(line, own, "learn").learned,
              std::vector<std::string>{"<reason>hm</reason>a<|im_end|>"})
        << line;
  }
  const std::string none =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";
  EXPECT_EQ(samples_of(none, own, "mask").learned, std::vector<std::string>{"a<|im_end|>"});
}

std::string problem_of(const std::string& lines, const std::string& source = kTemplate) {
  try {
    samples_of(lines, source);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::bad_input);
    return error.what();
  }
  return "";
}

TEST(JinjaData, ProblemsNameRecordAndMessage) {
  const std::string good =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})";
  const auto raised =
      problem_of(good + "\n" + kCalls,
                 "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% "
                 "endif %}{{ m.content }}{{ m.tool_calls }}{{ tools }}{% endfor %}");
  EXPECT_NE(raised.find("x.jsonl:2: the chat template at message 3 (tool): no tools"), std::string::npos)
      << raised;
  const auto ignored = problem_of(good + "\n" + kCalls, "{% for m in messages %}{{ m.content }}{% endfor %}");
  EXPECT_NE(ignored.find("x.jsonl:2: "), std::string::npos) << ignored;
  EXPECT_NE(ignored.find("the chat template does not write it"), std::string::npos) << ignored;
  const auto endless =
      problem_of(good,
                 "{% macro f() %}{{ f() }}{% endmacro %}{{ messages[0].content }}{% if messages | "
                 "length == 2 and messages[1].content == 'a' %}{{ f() }}{% endif %}");
  EXPECT_NE(endless.find("x.jsonl:1: "), std::string::npos) << endless;
  EXPECT_NE(endless.find("calls itself without end"), std::string::npos) << endless;
}

// Many records, so that they go in batches to several children: each its own, in the order of the file.
TEST(JinjaData, ManyRecordsKeepTheirOrder) {
  std::string lines;
  std::vector<std::string> wanted;
  for (int i = 0; i < 1000; ++i) {
    lines += fmt::format(
        R"({{"messages":[{{"role":"user","content":"{}"}},{{"role":"assistant","content":"a{}"}}]}})"
        "\n",
        i, i);
    wanted.push_back(fmt::format("a{}<|im_end|>", i));
  }
  EXPECT_EQ(samples_of(lines).learned, wanted);
}

}  // namespace
}  // namespace retort
