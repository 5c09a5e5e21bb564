#include "text/template_thoughts.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/files.h"
#include "text/byte_tokenizer.h"
#include "text/jinja_chat.h"
#include "where.h"  // tests

namespace retort {
namespace {

// A template that writes an assistant's thought and answer so, and begins replies with `header`.
ThoughtMarks marks_of(const std::string& answer, const std::string& header = "") {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>", "[R]", "[/R]"});
  return own_thought_marks(jinja_chat_template(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + answer +
          "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
          "%}<|im_start|>assistant\n" +
          header + "{% endif %}",
      tokenizer));
}

TEST(OwnThoughtMarks, AreWhatTheTemplateWritesAroundAThought) {
  const auto tags = marks_of("<reason>\n{{ m.reasoning_content }}\n</reason>\n\n{{ m.content }}");
  EXPECT_EQ(tags.open, "<reason>");
  EXPECT_EQ(tags.close, "</reason>");
  const auto tokens = marks_of("[R]{{ m.thinking }}[/R]{{ m.content }}");
  EXPECT_EQ(tokens.open, "[R]");
  EXPECT_EQ(tokens.close, "[/R]");
  const auto begun = marks_of("<reason>{{ m.reasoning_content }}</reason>{{ m.content }}", "<reason>");
  EXPECT_EQ(begun.open, "");
  EXPECT_EQ(begun.close, "</reason>");
}

// As gpt-oss does: the answer's channel is written by the model, before an answer without a thought too.
TEST(OwnThoughtMarks, TheHeaderOfAnAnswerWithoutAThoughtIsFound) {
  const auto channels = marks_of(
      "{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|im_start|>assistant\n{% "
      "endif "
      "%}<|channel|>final<|message|>{{ m.content }}");
  EXPECT_EQ(channels.open, "<|channel|>analysis<|message|>");
  EXPECT_EQ(channels.close, "<|end|><|im_start|>assistant\n<|channel|>final<|message|>");
  EXPECT_EQ(channels.header, "<|channel|>final<|message|>");
  EXPECT_EQ(marks_of("{{ m.content }}").header, "");
  EXPECT_EQ(marks_of("<think>\n\n</think>\n\n{{ m.content }}").header, "");  // a family's own
  EXPECT_EQ(marks_of("<reason>{{ m.reasoning_content }}</reason>{{ m.content }}", "<reason>").header,
            "</reason>");
}

TEST(OwnThoughtMarks, OfGptOssAreItsChannels) {
  const auto file =
      std::filesystem::path(source_dir()) / "third_party/jinja/templates/openai-gpt-oss-120b.jinja";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is missing: tools/setup fetches it";
  const ByteTokenizer tokenizer({"<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"});
  const auto marks = own_thought_marks(jinja_chat_template(read_text(file, 1 << 20), tokenizer));
  EXPECT_EQ(marks.open, "<|channel|>analysis<|message|>");
  EXPECT_EQ(marks.close, "<|end|><|start|>assistant<|channel|>final<|message|>");
  EXPECT_EQ(marks.header, "<|channel|>final<|message|>");
}

TEST(OwnThoughtMarks, AreKeptForEachText) {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>"});
  const auto made = [&](const std::string& mark) {
    return jinja_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}\n<" + mark +
                                   ">{{ m.reasoning_content }}</" + mark +
                                   ">{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
                                   "%}<|im_start|>assistant\n{% endif %}",
                               tokenizer);
  };
  const auto one = made("one"), two = made("two");
  EXPECT_EQ(kept_thought_marks(one).close, "</one>");
  EXPECT_EQ(kept_thought_marks(two).close, "</two>");
  EXPECT_EQ(&kept_thought_marks(one), &kept_thought_marks(made("one")));
}

TEST(OwnThoughtMarks, AreNoneWhereThereAreNoneOrTheFamiliesAre) {
  EXPECT_EQ(marks_of("{{ m.content }}").close, "");  // which holds <think>...</think>
  EXPECT_EQ(marks_of("<think>{{ m.reasoning_content }}</think>{{ m.content }}").close, "");
  EXPECT_EQ(marks_of("{{ m.reasoning_content }}\n\n{{ m.content }}").close, "");
  EXPECT_EQ(
      marks_of("{% if m.reasoning_content %}{{ raise_exception('none') }}{% endif %}{{ m.content }}").close,
      "");
  EXPECT_EQ(own_thought_marks(*find_chat_template("chatml")).close, "");
  EXPECT_EQ(own_thought_marks(*find_chat_template("qwen3-thinking")).close, "");
}

}  // namespace
}  // namespace retort
