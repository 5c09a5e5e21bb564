#include "data/train_on.h"

#include <algorithm>

#include "base/error.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

bool calls_tools(const Message& message) {
  return message.fields.find("\"tool_calls\":") != std::string::npos ||
         message.fields.find("\"function_call\":") != std::string::npos;
}

bool starts_with(const std::vector<int32_t>& tokens, const std::vector<int32_t>& beginning) {
  return tokens.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), tokens.begin());
}

// The last token from which on the text still holds the words.
size_t first_of_words(const Tokenizer& tokenizer, std::span<const int32_t> tokens, std::string_view words) {
  const auto holds = [&](size_t from) {
    return tokenizer.decode(tokens.subspan(from)).find(words) != std::string::npos;
  };
  if (!holds(0)) return tokens.size();
  size_t low = 0, high = tokens.size();  // holds(low), not holds(high)
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

Record chosen_to_learn(const TrainOnSpec& spec, Record record) {
  if (spec.usual() || record.messages.empty()) return record;
  bool any = false;
  for (auto& message : record.messages) {
    const bool call = !spec.tool_calls && message.role == "assistant" && calls_tools(message);
    if (call || !spec.learns(message.role)) message.learned = Learned::nothing;
    any = any || message.learned != Learned::nothing;
  }
  if (spec.turns == "last" && !spec.others() && record.messages.back().learned == Learned::nothing)
    any = false;
  if (!any)
    throw RecipeError(record.place +
                      ": no message is left to learn (data.train_on); leave such records out with "
                      "on_bad_record: skip of the source");
  return record;
}

void learn_others(const TrainOnSpec& spec, const Record& record, const Tokenizer& tokenizer,
                  const ChatTemplate& chat, Sample& sample) {
  const auto refuse = [&](size_t m, const char* what) {
    throw RecipeError(
        fmt::format("message {}: {}, so that it cannot be learned (data.train_on.roles)", m + 1, what));
  };
  std::vector<Message> messages;
  std::vector<int32_t> before;
  for (size_t m = 0; m < record.messages.size(); ++m) {
    const auto& message = record.messages[m];
    messages.push_back(message);
    if (message.role == "assistant" || message.learned == Learned::nothing || !spec.learns(message.role))
      continue;
    before.clear();
    if (m > 0) before = render_tokens(chat, tokenizer, {messages.begin(), messages.end() - 1}, false).tokens;
    const auto with = render_tokens(chat, tokenizer, messages, false).tokens;
    if (!starts_with(with, before) || !starts_with(sample.tokens, with))
      refuse(m, "the chat template writes it otherwise once later turns follow");
    const auto own = std::span(with).subspan(before.size());
    const auto begin = first_of_words(tokenizer, own, trimmed(message.content));
    if (begin == own.size()) refuse(m, "the chat template does not write its words as they are");
    for (size_t i = before.size() + begin; i < with.size(); ++i) sample.weights[i] = 1;
  }
}

}  // namespace retort
