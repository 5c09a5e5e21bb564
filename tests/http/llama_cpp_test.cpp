// Against a real llama-cpp-python server that serves the model on disk: tests/http/llama_cpp_server.py starts
// it and this test.
#include <cstdlib>

#include "data/dataset.h"
#include "data/readers.h"
#include "http/loopback_server.h"
#include "http/openai.h"
#include "models/model.h"
#include "teacher/teach.h"
#include "where.h"  // tests

namespace retort {
namespace {

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool is_text(const std::string& text) {
  return error_of([&] { require_text(text, "token", ""); }) == "none";
}

TEST(LlamaCppServer, SaysWhatTheSameModelSaysHere) {
  const char* url = std::getenv("RETORT_LLAMA_SERVER");
  if (!url) GTEST_SKIP() << "tests/http/llama_cpp_server.py runs this";
  TeacherSpec spec;
  spec.url = url;
  spec.server.token_file = std::getenv("RETORT_LLAMA_TOKEN");
  spec.server.concurrent = 2;
  const auto here =
      load_model({.path = (std::filesystem::path(source_dir()) / kModel).string(), .compute = "f32"});
  const auto& tokenizer = *here.tokenizer;
  OpenAiTeacher teacher(spec, tokenizer);
  EXPECT_EQ(teacher.model(), "smollm2");

  std::vector<Sample> samples;
  const DataSpec data;
  for (const auto* answer : {"They have 12 legs.", "A naïve café costs 5 €, “mostly” — 日本語 too."}) {
    Record record;
    record.messages = {{"user", "How many legs have three horses?"}, {"assistant", answer}};
    record.place = answer;
    samples.push_back(make_sample(data, record, tokenizer, *find_chat_template("smollm2")));
  }
  const auto rows = teacher.score(samples, 8);
  const TokenNames names(tokenizer);
  size_t positions = 0, named = 0, same = 0, missing = 0;
  double difference = 0;
  for (size_t s = 0; s < samples.size(); ++s) {
    const auto forests = build_forests({samples[s]}, 512);
    ASSERT_EQ(forests.size(), 1u);
    const auto pass = make_pass(forests[0], at::kFloat);
    const auto hidden = here.model->hidden(pass);
    for (const auto& target : forests[0].targets) {
      const auto log_p = logits(hidden, std::vector<int32_t>{target.row}, here.model->head, pass)
                             .narrow(1, 0, tokenizer.size())
                             .log_softmax(-1)[0];
      const auto& row = rows[s].at(static_cast<size_t>(target.row));
      ASSERT_FALSE(row.ids.empty()) << target.row;
      ++positions;
      // Halves of characters have no text of their own; where they are the likeliest, the row cannot say so.
      const auto top = static_cast<int32_t>(log_p.argmax().item<int64_t>());
      if (names.find(names.text_of(top)) && is_text(names.text_of(top))) ++named, same += top == row.ids[0];
      missing += 8 - row.ids.size();
      // llama.cpp rounds activations to 8 bits before it multiplies.
      double one = 0;
      for (size_t j = 0; j < row.ids.size(); ++j)
        one += std::exp(row.log_p[j]) * std::abs(log_p[row.ids[j]].item<double>() - row.log_p[j]);
      difference += one;
    }
  }
  fmt::print(
      "{} positions, top-1 equal at {} of {}, mean difference {:.4f} nats, {} of {} ids without a text of "
      "their own\n",
      positions, same, named, difference / static_cast<double>(positions), missing, 8 * positions);
  EXPECT_GE(positions, 30u);
  EXPECT_GE(static_cast<double>(same), 0.9 * static_cast<double>(named));
  EXPECT_GE(2 * named, positions);
  EXPECT_LT(difference / static_cast<double>(positions),
            0.1);  // another alignment or another token differs by nats
}

}  // namespace
}  // namespace retort
