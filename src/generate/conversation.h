// A conversation with a model. The KV cache is kept from turn to turn, so that a turn computes its own tokens
// alone.
#pragma once
#include <memory>

#include "generate/generate.h"
#include "generate/growing_forest.h"

namespace retort {

class Conversation {
 public:
  // All references must outlive the conversation. It is one text: `how.batch` says nothing here.
  Conversation(const Writer& writer, const ChatTemplate& chat, const SampleSpec& sample);

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
  void grow(GrowingAnswer& growing, const std::vector<int32_t>& prompt, const GrowingAnswer::Heard& heard);
  Tensor feed(const std::vector<int32_t>& prompt);

  const Writer writer_;
  const ChatTemplate& chat_;
  const AnswerRules rules_;
  std::vector<Message> messages_;
  std::unique_ptr<GrowingForest> forest_;  // one text
  std::vector<int32_t> cached_;            // its tokens
  int64_t reused_ = 0, turns_ = 0;
};

}  // namespace retort
