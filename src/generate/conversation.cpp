#include "generate/conversation.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/stop.h"
#include "ops/device_copies.h"
#include "ops/workers.h"

namespace retort {

Conversation::Conversation(const Writer& writer, const ChatTemplate& chat, const SampleSpec& sample)
    : writer_(writer),
      chat_(chat),
      rules_{sample, stop_rules(writer.model.config, writer.tokenizer, &chat, sample)} {}

void Conversation::reset(const std::string& system) {
  messages_.clear();
  if (!system.empty()) messages_.push_back({"system", system});
}

Answer Conversation::say(const std::string& user, const GrowingAnswer::Heard& heard) {
  messages_.push_back({"user", user});
  Answer said;
  try {
    const auto prompt = render_tokens(chat_, writer_.tokenizer, messages_, true).tokens;
    if (answer_room(writer_.model.config, prompt.size(), rules_.sample) < 1)
      throw RecipeError(fmt::format(
          "the conversation has {} tokens, which leaves no room in the model's context of {}; begin anew",
          prompt.size(), writer_.model.config.context));
    run_workers(usable_threads(writer_.how.threads), 1, [&](int64_t) { said = answer(prompt, heard); });
  } catch (...) {
    messages_.pop_back();
    throw;
  }
  messages_.push_back({"assistant", said.text});
  ++turns_;
  return said;
}

// Brings the cache to hold the prompt: what it shares with the cache's tokens stays, the rest is computed.
// The hidden state of the last token [1,E].
Tensor Conversation::feed(const std::vector<int32_t>& prompt) {
  auto kept =
      std::mismatch(cached_.begin(), cached_.end(), prompt.begin(), prompt.end()).second - prompt.begin();
  kept =
      std::min<std::ptrdiff_t>(kept, static_cast<std::ptrdiff_t>(prompt.size()) -
                                         1);  // the last token is computed again: its hidden state is needed
  reused_ = kept;
  Feed feed;
  if (!forest_ || kept < 1) {
    forest_ = std::make_unique<GrowingForest>(writer_.model, writer_.compute, kv_type(writer_.how.kv));
    cached_ = {prompt[0]};
    feed = forest_->feed_prompts({cached_}, 0);
    kept = 1;
  }
  forest_->cut(0, kept);
  if (const auto rest = std::span(prompt).subspan(static_cast<size_t>(kept)); !rest.empty()) {
    auto more = forest_->feed_text(0, rest, writer_.how.prefill_rows);
    for (auto& last : more.last) last.pass += feed.passes.size();
    feed.last = std::move(more.last);
    std::move(more.passes.begin(), more.passes.end(), std::back_inserter(feed.passes));
  }
  cached_.clear();  // until it is there
  const auto hidden = forest_->computed(feed);
  cached_ = prompt;
  return hidden;
}

Answer Conversation::answer(const std::vector<int32_t>& prompt, const GrowingAnswer::Heard& heard) {
  const UnchangedScope one_answer;
  const auto room = answer_room(writer_.model.config, prompt.size(), rules_.sample);
  GrowingAnswer growing(writer_.tokenizer, rules_, room, turns_, prompt);
  try {
    grow(growing, prompt, heard);
  } catch (const Stopped&) {  // in the middle of a pass, which is long where layers are read from a file
    growing.interrupt();
    if (cached_.empty()) forest_.reset();
    else forest_->cut(0, static_cast<int64_t>(cached_.size()));
  }
  return growing.close(heard);
}

void Conversation::grow(GrowingAnswer& growing, const std::vector<int32_t>& prompt,
                        const GrowingAnswer::Heard& heard) {
  auto hidden = feed(prompt);
  Pass pass;
  pass.compute = writer_.compute;
  for (;;) {
    if (stop_requested()) {
      growing.interrupt();
      break;
    }
    auto scores = logits(hidden, std::vector<int32_t>{0}, writer_.model.head, pass).contiguous();  // [1,V]
    const auto token =
        growing.take_next({scores.data_ptr<float>(), static_cast<size_t>(scores.size(1))}, heard);
    if (!token) break;
    hidden = forest_->extend(0, std::span(&*token, 1));
    cached_.push_back(*token);
  }
}

}  // namespace retort
