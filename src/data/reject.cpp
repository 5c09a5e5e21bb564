#include "data/reject.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_pieces.h"
#include "text/final_answer.h"
#include "text/text_match.h"

namespace retort {
namespace {

constexpr std::string_view kReasons[kRejections] = {"unfinished",
                                                    "too short",
                                                    "too long",
                                                    "matching reject.if_match",
                                                    "not matching reject.unless_match",
                                                    "with a wrong answer",
                                                    "equal to another answer",
                                                    "beyond reject.answers_per_prompt"};
// What servers call an answer that ended by itself.
constexpr std::string_view kFinished[] = {"stop", "stop_sequence", "eos", "end_turn"};

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; });
}

// The prompt as a key; texts share the empty one.
std::string prompt_of(const Record& record) {
  std::string key;
  for (const auto& message : record.prompt())
    key += fmt::format("{}:{}:{}", message.role, message.content.size(), message.content);
  return key;
}

ContentKey key_of(std::string_view prompt, std::string_view answer) {
  Sha256 hash;
  return content_key(hash.add(fmt::format("{}:", prompt.size())).add(prompt).add(answer));
}

// Lower case, words and numbers only, so that "It is 4." and "it is 4" are one answer but "-4" and "4", "1.5"
// and "15" are two.
std::string words_of(std::string_view text) {
  std::string words;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool before_digit = i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1]));
    if (byte >= 0x80 || std::isalnum(byte))
      words += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    else if (before_digit && std::string_view("-+.,/").find(text[i]) != std::string_view::npos)
      words += text[i];
    else if (!words.empty() && words.back() != ' ') words += ' ';
  }
  return std::string(trimmed(words));
}

}  // namespace

int64_t RejectionCounts::total() const {
  return std::accumulate(rejected.begin(), rejected.end(), int64_t{0});
}

std::string describe(const RejectionCounts& counts) {
  std::string text =
      fmt::format("{}: {} of {} records rejected", printable(counts.path), counts.total(), counts.records);
  const char* before = ": ";
  for (size_t i = 0; i < kRejections; ++i) {
    if (counts.rejected[i] == 0) continue;
    text += fmt::format("{}{} {}", before, counts.rejected[i], kReasons[i]);
    before = ", ";
  }
  return text;
}

Judge::Judge(const RejectSpec& spec, const std::string& where) : spec_(spec), where_(where + ".reject") {
  if (!spec.unless_match.empty()) wanted_.emplace(spec.unless_match, where_ + ".unless_match");
  if (!spec.if_match.empty()) forbidden_.emplace(spec.if_match, where_ + ".if_match");
  if (spec.longer_than > 0 && spec.longer_than < spec.shorter_than)
    throw RecipeError(fmt::format("{}.longer_than: {} is below shorter_than, {}, so that nothing passes",
                                  where_, spec.longer_than, spec.shorter_than));
  if (spec.thoughts.empty()) return;
  if (spec.thoughts.size() != 2 || trimmed(spec.thoughts[1]).empty())
    throw RecipeError(
        fmt::format("{}.thoughts: expected two texts, what opens and what closes a thought, found {}; e.g. "
                    "[<reason>, </reason>]",
                    where_, Json(spec.thoughts).dump(-1, ' ', false, Json::error_handler_t::replace)));
  own_ = {spec.thoughts[0], spec.thoughts[1]};
}

std::string Judge::filled(const std::string& pattern, const Record& record, const char* key) const {
  try {
    return fill_placeholders(pattern, record.columns, where_ + key);
  } catch (const RecipeError& error) { throw RecipeError(printable(record.place) + ": " + error.what()); }
}

bool Judge::right(const Record& record, std::string_view answer) const {
  const auto expected = filled(spec_.unless_answer, record, ".unless_answer");
  if (spec_.compare != "final") {
    const auto wanted = without_thoughts(expected, false, own_),
               given = without_thoughts(answer, false, own_);
    return spec_.compare == "whole" ? trimmed(wanted) == trimmed(given)
                                    : normalised_answer(wanted) == normalised_answer(given);
  }
  // A number that was thought of is no answer.
  const auto got = final_answer(without_thoughts(answer, false, own_));
  // The column holds the bare answer, or a solution that ends with it.
  return got &&
         (equal_answers(expected, *got) ||
          equal_answers(final_answer(without_thoughts(expected, false, own_)).value_or(expected), *got));
}

std::optional<Rejection> Judge::judge(const Record& record) {
  const auto whole = record.completion();
  const auto answer = trimmed(whole);
  if (!spec_.unless_finished.empty()) {
    const auto reason = filled("{" + spec_.unless_finished + "}", record, ".unless_finished");
    if (std::find(std::begin(kFinished), std::end(kFinished), reason) == std::end(kFinished))
      return Rejection::unfinished;
  }
  const auto length = characters(answer);
  if (length < spec_.shorter_than) return Rejection::too_short;
  if (spec_.longer_than > 0 && length > spec_.longer_than) return Rejection::too_long;
  if (forbidden_ && forbidden_->found_in(answer, record.place)) return Rejection::forbidden;
  if (wanted_ && !wanted_->found_in(answer, record.place)) return Rejection::unmatched;
  if (!spec_.unless_answer.empty() && !right(record, answer)) return Rejection::wrong;
  const auto prompt = prompt_of(record);
  if (spec_.duplicates && !kept_.insert(key_of(prompt, words_of(answer))).second) return Rejection::duplicate;
  if (spec_.answers_per_prompt > 0 && ++answers_[key_of(prompt, "")] > spec_.answers_per_prompt)
    return Rejection::surplus;
  return std::nullopt;
}

}  // namespace retort
