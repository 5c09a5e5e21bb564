#include "text/template_thoughts.h"

#include <algorithm>

#include "base/error.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr std::string_view kThought = "retort asks how a thought is marked", kAnswer = "and what it answers";
constexpr size_t kLongestMark = 200;

bool is_of_a_family(std::string_view mark) {
  const auto all = thought_marks();
  return std::any_of(all.begin(), all.end(),
                     [&](auto one) { return mark.find(one) != std::string_view::npos; });
}

}  // namespace

ThoughtMarks own_thought_marks(const ChatTemplate& chat) {
  if (chat.source.empty()) return {};
  const Message user{"user", "retort asks"};
  Message assistant{"assistant", fmt::format("<think>\n{}\n</think>\n\n{}", kThought, kAnswer)};
  assistant.thought = kThought;
  assistant.spoken = kAnswer;
  std::string header, answered;
  try {
    header = render_text(chat, {user}, true);
    answered = render_text(chat, {user, assistant}, false);
  } catch (const RecipeError&) { return {}; }  // it refuses thoughts, or such a talk
  const auto thought = answered.find(kThought);
  if (thought == std::string::npos) return {};
  const auto behind = thought + kThought.size();
  const auto answer = answered.find(kAnswer, behind);
  if (answer == std::string::npos) return {};
  const auto shared = static_cast<size_t>(
      std::mismatch(header.begin(), header.end(), answered.begin(), answered.end()).first - header.begin());
  const std::string_view text = answered;
  const auto open = trimmed(text.substr(std::min(shared, thought), thought - std::min(shared, thought)));
  const auto close = trimmed(text.substr(behind, answer - behind));
  if (close.empty() || close.size() > kLongestMark || open.size() > kLongestMark || is_of_a_family(close))
    return {};
  return {std::string(open), std::string(close)};
}

}  // namespace retort
