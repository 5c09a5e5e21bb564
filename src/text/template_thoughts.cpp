#include "text/template_thoughts.h"

#include <algorithm>
#include <map>
#include <mutex>

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

// What a template writes between the header of a reply and an answer without a thought, where that is no mark
// of the families.
std::string header_of_answers(std::string_view header, std::string_view answered) {
  const auto answer = answered.find(kAnswer);
  if (answer == std::string_view::npos || answer < header.size() || !answered.starts_with(header)) return "";
  const auto found = trimmed(answered.substr(header.size(), answer - header.size()));
  return found.size() > kLongestMark || is_of_a_family(found) ? std::string() : std::string(found);
}

}  // namespace

ThoughtMarks own_thought_marks(const ChatTemplate& chat) {
  if (chat.source.empty()) return {};
  const Message user{"user", "retort asks"};
  Message assistant{"assistant", fmt::format("<think>\n{}\n</think>\n\n{}", kThought, kAnswer)};
  assistant.thought = kThought;
  assistant.spoken = kAnswer;
  const auto rendered = [&](const std::vector<Message>& messages, bool reply_header) -> std::string {
    try {
      return render_text(chat, messages, reply_header);
    } catch (const RecipeError&) { return ""; }  // it refuses thoughts, or answers without one
  };
  const auto header = rendered({user}, true), answered = rendered({user, assistant}, false);
  if (header.empty()) return {};
  ThoughtMarks marks;
  marks.header = header_of_answers(header, rendered({user, {"assistant", std::string(kAnswer)}}, false));
  const auto thought = answered.find(kThought);
  if (thought == std::string::npos) return marks;
  const auto behind = thought + kThought.size();
  const auto answer = answered.find(kAnswer, behind);
  if (answer == std::string::npos) return marks;
  const auto shared = static_cast<size_t>(
      std::mismatch(header.begin(), header.end(), answered.begin(), answered.end()).first - header.begin());
  const std::string_view text = answered;
  const auto open = trimmed(text.substr(std::min(shared, thought), thought - std::min(shared, thought)));
  const auto close = trimmed(text.substr(behind, answer - behind));
  if (close.empty() || close.size() > kLongestMark || open.size() > kLongestMark || is_of_a_family(close))
    return marks;
  marks.open = open;
  marks.close = close;
  return marks;
}

const ThoughtMarks& kept_thought_marks(const ChatTemplate& chat) {
  static std::mutex mutex;
  static std::map<std::string, ThoughtMarks, std::less<>> kept;  // by the template's text; never moved
  const std::lock_guard lock(mutex);
  const auto found = kept.find(chat.source);
  return found != kept.end() ? found->second
                             : kept.emplace(chat.source, own_thought_marks(chat)).first->second;
}

}  // namespace retort
