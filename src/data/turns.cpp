#include "data/turns.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "text/chat_pieces.h"
#include "text/thoughts.h"

namespace retort {
namespace {

constexpr std::string_view kOwn = "#answer";  // and which of the conversation's answers, from 1

bool is_answer(const Message& message) { return message.role == "assistant"; }

// The text up to the end of message `answer`, as the model meets it: what is control and what is its own are
// marked.
std::string context_of(const std::vector<Piece>& pieces, int32_t answer) {
  size_t end = pieces.size();
  while (end > 0 && pieces[end - 1].answer != answer) --end;
  std::string context;
  bool inside = false;
  for (size_t i = 0; i < end; ++i) {
    const bool own = pieces[i].answer == answer;
    if (own != inside) context += '\x01';
    inside = own;
    if (pieces[i].control) context += '\x04';
    context += pieces[i].text;
    if (pieces[i].control) context += '\x04';
  }
  return context;
}

std::string text_of(const std::vector<Piece>& pieces, int32_t answer) {
  std::string text;
  for (const auto& piece : pieces)
    if (piece.answer == answer) text += piece.text;
  return text;
}

bool has_thought(std::string_view text) { return without_thoughts(text) != text; }

// The conversation up to message `end` alone, in which that one is learned.
Record up_to(const Record& record, size_t end) {
  Record part = record;
  part.messages.resize(end + 1);
  const auto number = std::count_if(part.messages.begin(), part.messages.end(), is_answer);
  part.place += fmt::format("{}{}", kOwn, number);
  for (size_t i = 0; i < end; ++i) part.messages[i].learned = Learned::nothing;
  return part;
}

class Conversation {
 public:
  Conversation(const DataSpec& spec, Record record, const ChatTemplate& chat)
      : spec_(spec), record_(std::move(record)), chat_(chat) {}

  Turns turns() {
    auto& messages = record_.messages;
    const auto whole = chat_.render(messages, false);
    const bool one_by_one = spec_.loss == "completion";  // else nothing before the last answer is chosen
    bool any = false;
    for (size_t i = 0; i < messages.size(); ++i) {
      if (!is_answer(messages[i]) || messages[i].learned == Learned::nothing) continue;
      const bool last = i + 1 == messages.size();
      if ((spec_.loss == "last_answer" || spec_.train_on.turns == "last") && !last) continue;
      if (last || !one_by_one) {
        count_thought(messages[i], whole, i);
        any = true;
        continue;
      }
      auto part = up_to(record_, i);
      const auto alone = render_alone(part);
      if (context_of(alone, static_cast<int32_t>(i)) == context_of(whole, static_cast<int32_t>(i))) {
        count_thought(messages[i], whole, i);
        any = true;
        continue;
      }
      ++found_.changed;
      messages[i].learned = Learned::nothing;
      if (spec_.changed_answers != "own_sample") continue;
      count_thought(record_.messages[i], alone, i);
      own_.push_back(std::move(part));
    }
    // Where every answer has a sample of its own, nothing of the whole is left to learn.
    if (any || own_.empty() || spec_.train_on.others()) found_.samples.push_back(std::move(record_));
    for (auto& part : own_) found_.samples.push_back(std::move(part));
    return std::move(found_);
  }

 private:
  // A template that begins each reply with an empty thought refuses one in the last answer, and drops those
  // of earlier ones: here as there.
  std::vector<Piece> render_alone(Record& part) {
    auto& content = part.messages.back().content;
    if (!has_thought(content)) return chat_.render(part.messages, false);
    try {
      return chat_.render(part.messages, false);
    } catch (const RecipeError&) {
      content = without_thoughts(content);
      return chat_.render(part.messages, false);
    }
  }

  void count_thought(const Message& message, const std::vector<Piece>& pieces, size_t i) {
    if (!has_thought(message.content)) return;
    const auto text = text_of(pieces, static_cast<int32_t>(i));
    const auto thought = trimmed(message.thought);  // a template may have marks of its own for it
    if (!has_thought(text) && (thought.empty() || text.find(thought) == std::string::npos))
      ++found_.dropped_thoughts;
  }

  const DataSpec& spec_;
  Record record_;
  const ChatTemplate& chat_;
  Turns found_;
  std::vector<Record> own_;
};

}  // namespace

Turns turns_of(const DataSpec& spec, Record record, const ChatTemplate& chat) {
  const auto& messages = record.messages;
  const auto answers = std::count_if(messages.begin(), messages.end(), is_answer);
  const bool thinks = std::any_of(messages.begin(), messages.end(), [](const Message& message) {
    return is_answer(message) && has_thought(message.content);
  });
  if (answers > 1 || thinks) {
    const auto place = record.place;
    try {
      return Conversation(spec, std::move(record), chat).turns();
    } catch (const RecipeError& error) { throw RecipeError(place + ": " + error.what()); }
  }
  Turns turns;
  turns.samples.push_back(std::move(record));
  return turns;
}

Record record_of_sample(const Record& record, std::string_view sample_id) {
  const auto mark = sample_id.rfind(kOwn);
  if (record.messages.empty() || mark == std::string_view::npos || sample_id.substr(0, mark) != record.place)
    return record;
  const auto digits = sample_id.substr(mark + kOwn.size());
  int64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  for (size_t i = 0; i < record.messages.size(); ++i)
    if (is_answer(record.messages[i]) && --number == 0) return up_to(record, i);
  return record;
}

}  // namespace retort
