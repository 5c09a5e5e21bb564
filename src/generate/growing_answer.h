// One answer on its way: what it says so far, and when it ends.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "generate/sample_spec.h"
#include "generate/text_stream.h"
#include "models/model.h"

namespace retort {

// What ends a text: token ids (end of text, end of turn) and strings. Neither is part of the answer.
struct StopRules {
  std::vector<int32_t> tokens;
  std::vector<std::string> texts;
};

// The model's and the tokenizer's ends of text, the template's ends of turn (as tokens where the vocabulary
// has them, as texts where not) and the spec's stop strings. `chat` may be nullptr.
StopRules stop_rules(const ModelConfig& config, const Tokenizer& tokenizer, const ChatTemplate* chat,
                     const SampleSpec& spec);

// How the tokens of an answer are chosen, and what ends it.
struct AnswerRules {
  SampleSpec sample;
  StopRules stops;
};

enum class Finish { stop_token, stop_text, length, context, interrupted };
std::string_view finish_name(Finish finish);

struct Answer {
  std::vector<int32_t> tokens;  // without the stop token; with the tokens of a stop string
  std::string text;             // bytes of the answer, without the stop string
  Finish finish = Finish::length;
};

// Tokens that may follow a prompt: max_tokens, or what the model's context leaves (below 1: no room).
int64_t answer_room(const ModelConfig& config, size_t prompt_tokens, const SampleSpec& sample);

class GrowingAnswer {
 public:
  // Hears new text in whole characters; false stops the answer.
  using Heard = std::function<bool(std::string_view fresh)>;

  // `number` keys the draws; all references must outlive the answer.
  GrowingAnswer(const Tokenizer& tokenizer, const AnswerRules& rules, int64_t most_tokens, int64_t number,
                const std::vector<int32_t>& prompt);

  // Chooses the next token from the logits [V], which it changes, and takes it in: never an id that no token
  // has (rows of padding). The token, or nullopt when
  // the answer is complete; `heard` may be empty.
  std::optional<int32_t> take_next(std::span<float> logits, const Heard& heard);
  void interrupt() { answer_.finish = Finish::interrupted; }
  // Tells the rest of the text and gives the answer away.
  Answer close(const Heard& heard);

 private:
  bool complete_with(int32_t token, const Heard& heard);

  const Tokenizer& tokenizer_;
  const AnswerRules& rules_;
  int64_t most_tokens_, number_, step_ = 0;
  TextStream stream_;
  std::unordered_set<int32_t> seen_;  // only with a repetition penalty
  Answer answer_;
};

}  // namespace retort
