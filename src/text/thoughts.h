// What reasoning models think before they answer.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace retort {

// What opens and what closes a thought in one spelling. `open` may be empty: the prompt opens it. `header`:
// what begins an answer that has no thought, as gpt-oss writes "<|channel|>final<|message|>" itself.
struct ThoughtMarks {
  std::string open, close;
  std::string header = {};
};

// The answer alone: without <think>...</think> and what other families write for it, a thought that was never
// closed included. A closing mark without an opening one ends a thought that the prompt began; `inside` says
// that the prompt ended so, and then a text without a closing mark is nothing but a thought.
std::string without_thoughts(std::string_view text, bool inside = false);
// The same for a template that has marks of its own (template_thoughts.h) beside those of the families; their
// `close` is empty where it has none. Without the header of an answer that has no thought.
std::string without_thoughts(std::string_view text, bool inside, const ThoughtMarks& own);

// What opens and what closes a thought, in each family's spelling.
std::span<const std::string_view> thought_marks();

// What closes a thought, in each family's spelling.
std::span<const std::string_view> thought_ends();

// Does a prompt end inside a thought, as templates write that open one for the model?
bool ends_inside_thought(std::string_view prompt, const ThoughtMarks& own = {});

}  // namespace retort
