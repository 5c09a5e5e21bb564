#include "generate/prompts.h"

#include "base/error.h"
#include "base/files.h"
#include "data/json_records.h"
#include "data/readers.h"

namespace retort {
namespace {

Prompt from_json(const Json& object, std::string_view line, std::string place) {
  Prompt prompt{std::move(place), {}};
  const auto read = [&](const Json& list, std::string_view key) {
    return messages_of(list, prompt.place, "learn", [&] {
      std::string found;
      for (auto& [name, value] : json_parts(line))
        if (name == key) found = std::move(value);
      return found;
    });
  };
  if (const auto messages = object.find("messages"); messages != object.end()) {
    prompt.messages = read(*messages, "messages");
  } else if (const auto text = object.find("prompt"); text != object.end() && text->is_array()) {
    prompt.messages = read(*text, "prompt");
  } else if (text != object.end() && text->is_string()) {
    prompt.messages = {{"user", text->get<std::string>()}};
  } else {
    corrupt(prompt.place, "", "expected a \"prompt\" (a text or messages) or \"messages\"");
  }
  if (prompt.messages.back().role != "user" && prompt.messages.back().role != "tool")
    corrupt(prompt.place, "",
            "the conversation ends with a message of role " + prompt.messages.back().role +
                "; expected the user's, which is to be answered");
  prompt.messages[0].beside = beside_messages(object, line, prompt.place);
  return prompt;
}

void add_lines(std::string_view content, std::string_view file, std::vector<Prompt>& prompts) {
  size_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    auto line = content.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    auto place = fmt::format("{}:{}", file, number);
    require_text(line, place, "");
    prompts.push_back({std::move(place), {{"user", std::string(line)}}});
  }
}

}  // namespace

std::vector<Prompt> prompts_of(std::string_view content, std::string_view file, bool json) {
  std::vector<Prompt> prompts;
  if (json)
    read_lines(content, file, [&](std::string_view line, std::string place) {
      const auto object = parse_json_line(line, place);
      prompts.push_back(from_json(object, line, std::move(place)));
    });
  else add_lines(without_bom(content), file, prompts);
  if (prompts.empty()) corrupt(file, "", "holds no prompt; expected one a line");
  return prompts;
}

std::vector<Prompt> read_prompts(const std::filesystem::path& file) {
  const auto ending = file.extension().string();
  const MappedFile mapped(file);
  auto prompts = prompts_of(mapped.text(), file.string(), ending == ".jsonl" || ending == ".ndjson");
  mapped.require_unchanged();
  return prompts;
}

std::vector<int32_t> tokens_of(const Prompt& prompt, const Tokenizer& tokenizer, const ChatTemplate* chat) {
  if (chat) return render_tokens(*chat, tokenizer, prompt.messages, true).tokens;
  if (prompt.messages.size() != 1)
    throw RecipeError(fmt::format("{}: a conversation needs a template; without one a prompt is a text",
                                  printable(prompt.place)));
  std::vector<int32_t> tokens;
  if (tokenizer.add_bos && tokenizer.bos) tokens.push_back(*tokenizer.bos);
  const auto text = tokenizer.encode(prompt.messages[0].content);
  tokens.insert(tokens.end(), text.begin(), text.end());
  return tokens;
}

}  // namespace retort
