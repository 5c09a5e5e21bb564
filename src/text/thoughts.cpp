#include "text/thoughts.h"

#include <utility>

#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr std::pair<std::string_view, std::string_view> kMarks[] = {
    {"<think>", "</think>"},            // DeepSeek R1, Qwen 3, SmolLM3, GLM
    {"[THINK]", "[/THINK]"},            // Magistral
    {"<seed:think>", "</seed:think>"},  // Seed-OSS
};

// An empty `open` is found nowhere.
std::string without(std::string_view text, std::string_view open, std::string_view close, bool inside) {
  std::string answer;
  while (true) {
    const auto ends = text.find(close), begins = open.empty() ? std::string_view::npos : text.find(open);
    if (inside || (ends != std::string_view::npos && ends < begins)) {  // the prompt began this thought
      if (ends == std::string_view::npos) return answer;
      answer.clear();
      text = text.substr(ends + close.size());
      inside = false;
      continue;
    }
    answer += text.substr(0, begins);
    if (begins == std::string_view::npos) return answer;
    text = text.substr(begins + open.size());
    const auto end = text.find(close);
    if (end == std::string_view::npos) return answer;  // it was cut while it thought
    text = text.substr(end + close.size());
  }
}

}  // namespace

std::string without_thoughts(std::string_view text, bool inside) {
  return without_thoughts(text, inside, {});
}

std::string without_thoughts(std::string_view text, bool inside, const ThoughtMarks& own) {
  std::string answer(text);
  const auto leave_out = [&](std::string_view open, std::string_view close) {
    const bool this_one = inside && answer.find(close) != std::string::npos;
    answer = without(answer, open, close, this_one);
    if (this_one) inside = false;
  };
  if (!own.close.empty()) leave_out(own.open, own.close);
  for (const auto& [open, close] : kMarks) leave_out(open, close);
  if (inside) return "";
  if (!own.header.empty() && trimmed(answer).starts_with(own.header))
    answer = trimmed(answer).substr(own.header.size());
  return answer.size() == text.size() ? answer : std::string(trimmed(answer));
}

std::span<const std::string_view> thought_ends() {
  static constexpr std::string_view kEnds[] = {kMarks[0].second, kMarks[1].second, kMarks[2].second};
  return kEnds;
}

std::span<const std::string_view> thought_marks() {
  static constexpr std::string_view kAll[] = {kMarks[0].first,  kMarks[0].second, kMarks[1].first,
                                              kMarks[1].second, kMarks[2].first,  kMarks[2].second};
  return kAll;
}

bool ends_inside_thought(std::string_view prompt, const ThoughtMarks& own) {
  const auto end = trimmed(prompt);
  if (!own.open.empty() && end.ends_with(own.open)) return true;
  for (const auto& mark : kMarks)
    if (end.ends_with(mark.first)) return true;
  return false;
}

}  // namespace retort
