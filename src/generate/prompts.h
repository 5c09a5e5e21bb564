// Prompts from outside: lines, or JSON objects with a prompt or messages.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace retort {

struct Prompt {
  std::string place;              // "file:line", "argument 2"
  std::vector<Message> messages;  // the last one is the user's
};

// One prompt a line, blank lines left out; or, when `json`, an object a line: {"prompt": text or messages} or
// {"messages": [...]}. FormatError with the place for anything else, and when there is none.
std::vector<Prompt> prompts_of(std::string_view content, std::string_view file, bool json);
std::vector<Prompt> read_prompts(const std::filesystem::path& file);  // .jsonl and .ndjson hold objects

// With a template: the rendered conversation and the header of a reply. Without one: the text itself, with
// BOS where the tokenizer's convention has one; RecipeError when it is more than one user's message.
std::vector<int32_t> tokens_of(const Prompt& prompt, const Tokenizer& tokenizer, const ChatTemplate* chat);

}  // namespace retort
