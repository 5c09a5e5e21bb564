// A conversation with a model. The KV cache is kept from turn to turn, so that a turn computes its own tokens
// alone.
#pragma once
#include <memory>

#include "generate/growing_answer.h"
#include "generate/growing_forest.h"

namespace retort {

class Conversation {
 public:
  // All references must outlive the conversation. `threads`: 0 = all.
  Conversation(const Model& model, const Tokenizer& tokenizer, const ChatTemplate& chat, SampleSpec sample,
               at::ScalarType compute, int64_t threads = 0);

  // The answer to the next message of the user; both join the conversation. A stop signal, or `heard` giving
  // false, ends the answer early (Finish::interrupted): what was said so far counts as the answer.
  // RecipeError when the context is full; the conversation is then as it was before.
  Answer say(const std::string& user, const GrowingAnswer::Heard& heard = nullptr);

  // Begins anew, with a system message unless it is empty.
  void reset(const std::string& system = "");

  const std::vector<Message>& messages() const { return messages_; }
  int64_t tokens() const { return static_cast<int64_t>(cached_.size()); }  // in the cache
  int64_t reused_tokens() const { return reused_; }                        // of the last turn's prompt

 private:
  Answer answer(const std::vector<int32_t>& prompt, const GrowingAnswer::Heard& heard);
  Tensor feed(const std::vector<int32_t>& prompt);

  const Model& model_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& chat_;
  SampleSpec sample_;
  StopRules stops_;
  at::ScalarType compute_;
  int64_t threads_;
  std::vector<Message> messages_;
  std::unique_ptr<GrowingForest> forest_;  // one text
  std::vector<int32_t> cached_;            // its tokens
  int64_t reused_ = 0, turns_ = 0;
};

}  // namespace retort
