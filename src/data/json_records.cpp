#include "data/json_records.h"

#include "base/error.h"

namespace retort {
namespace {

const Json& member(const Json& object, std::string_view name, std::string_view place) {
  const auto found = object.find(name);
  if (found == object.end()) corrupt(place, name, "this key is missing");
  return *found;
}

std::string text_member(const Json& object, std::string_view name, std::string_view place) {
  const auto& value = member(object, name, place);
  if (!value.is_string()) corrupt(place, name, std::string("expected a string, found ") + value.type_name());
  return value.get<std::string>();
}

std::string optional_text(const Json& object, std::string_view name, std::string_view place) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? std::string() : text_member(object, name, place);
}

// Names that data sets in the wild give to the three roles.
std::string role_of(std::string_view name, std::string_view place) {
  if (name == "system") return "system";
  if (name == "user" || name == "human" || name == "prompter") return "user";
  if (name == "assistant" || name == "gpt" || name == "model" || name == "bot" || name == "chatgpt")
    return "assistant";
  corrupt(place, name, "unknown role; expected system, user (human) or assistant (gpt, model)");
}

std::string word(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
}

}  // namespace

std::vector<Message> messages_of(const Json& list, std::string_view role_key, std::string_view content_key,
                                 std::string_view place) {
  if (!list.is_array() || list.empty()) corrupt(place, "", "expected a list of messages that is not empty");
  std::vector<Message> messages;
  for (const auto& entry : list) {
    if (!entry.is_object())
      corrupt(place, fmt::format("message {}", messages.size() + 1),
              std::string("expected an object, found ") + entry.type_name());
    messages.push_back(
        {role_of(text_member(entry, role_key, place), place), text_member(entry, content_key, place)});
  }
  return messages;
}

Columns json_columns(const Json& object) {
  Columns columns;
  for (const auto& [key, value] : object.items()) columns.emplace_back(key, word(value));
  return columns;
}

std::string recognised_kind(const Json& object, std::string_view place) {
  if (object.contains("messages")) return "messages";
  if (object.contains("conversations")) return "sharegpt";
  if (object.contains("instruction") && object.contains("output")) return "alpaca";
  if (object.contains("prompt") && object.contains("completion")) return "prompt_completion";
  if (object.contains("text")) return "text";
  std::string keys;
  for (const auto& [key, value] : object.items()) keys += (keys.empty() ? "" : ", ") + key;
  throw RecipeError(
      fmt::format("{}: no kind of record is recognised by its keys ({}); expected messages, conversations, "
                  "instruction + output, prompt + "
                  "completion or text; else set data.sources.prompt and data.sources.completion with "
                  "{{column}} placeholders",
                  place, printable(keys)));
}

void fill_from_json(const Json& object, std::string_view kind, Record& record) {
  const std::string& place = record.place;
  if (kind == "messages") {
    record.messages = messages_of(member(object, "messages", place), "role", "content", place);
  } else if (kind == "sharegpt") {
    record.messages = messages_of(member(object, "conversations", place), "from", "value", place);
    const auto system = optional_text(object, "system", place);
    if (!system.empty() && record.messages[0].role != "system")
      record.messages.insert(record.messages.begin(), {"system", system});
  } else if (kind == "alpaca") {
    auto user = text_member(object, "instruction", place);
    const auto input = optional_text(object, "input", place);
    if (!input.empty()) user += "\n\n" + input;
    record.messages = {{"user", user}, {"assistant", text_member(object, "output", place)}};
    const auto system = optional_text(object, "system", place);
    if (!system.empty()) record.messages.insert(record.messages.begin(), {"system", system});
  } else if (kind == "prompt_completion") {
    // Either texts or, as TRL writes them, lists of messages.
    const auto& prompt = member(object, "prompt", place);
    const auto& completion = member(object, "completion", place);
    record.messages = prompt.is_array()
                          ? messages_of(prompt, "role", "content", place)
                          : std::vector<Message>{{"user", text_member(object, "prompt", place)}};
    if (completion.is_array()) {
      for (auto& message : messages_of(completion, "role", "content", place))
        record.messages.push_back(std::move(message));
    } else {
      record.messages.push_back({"assistant", text_member(object, "completion", place)});
    }
  } else {
    record.text = text_member(object, "text", place);
  }
}

}  // namespace retort
