// Answers to a batch of prompts: prompts share what they have in common, every decode step is one pass with
// one row for each text that is still going.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/growing_answer.h"

namespace retort {

// New text of answer `index`, in whole characters; false stops that answer. Called from the worker's thread.
using OnText = std::function<bool(int64_t index, std::string_view fresh)>;

struct GenerateSpec {
  int64_t threads = 0;         // 0 = all
  int64_t batch = 32;          // texts that grow together
  int64_t prefill_rows = 512;  // prompt tokens a pass
  std::string kv = "auto";     // how keys and values are kept
  template <class Visitor> void fields(Visitor& field) {
    field("threads", threads, between(0, 4096),
          "worker threads, each with prompts of its own; 0 = as many as the machine has");
    field("batch", batch, between(1, 4096),
          "texts that grow together in one pass; where some have ended, others take their places");
    field("prefill_rows", prefill_rows, between(1, 1 << 20),
          "prompt tokens that go through the model in one pass");
    field("kv", kv, one_of({"auto", "f32", "bf16", "int8"}), kKvDocumentation);
  }
};

// What makes answers. Both references must outlive whoever is given it.
struct Writer {
  const Model& model;
  const Tokenizer& tokenizer;
  at::ScalarType compute = at::kFloat;
  GenerateSpec how = {};
};

// One answer a prompt, in the prompts' order. `first_answer` numbers the first one for the keyed draws, so
// that a part of a batch gives what the whole gives. A prompt that leaves no room in the model's context is a
// RecipeError.
std::vector<Answer> generate(const Writer& writer, const std::vector<std::vector<int32_t>>& prompts,
                             const AnswerRules& rules, const OnText& on_text = nullptr,
                             int64_t first_answer = 0);

}  // namespace retort
