#include "text/jinja_messages.h"

#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

bool is_usual(const Message& message) {
  return message.role == "system" || message.role == "user" || message.role == "assistant";
}

}  // namespace

std::string json_text(std::string_view text) {
  if (!simdjson::validate_utf8(text.data(), text.size()))
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  // As that does, in a fraction of the time: each message of a data set goes through here several times.
  std::string json;
  json.reserve(text.size() + text.size() / 16 + 2);
  json += '"';
  size_t from = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    json.append(text, from, i - from);
    from = i + 1;
    constexpr std::string_view kShort = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
    if (const auto at = kShort.find(text[i]); at != std::string_view::npos) json.append({'\\', kLetters[at]});
    else json += fmt::format("\\u{:04x}", c);
  }
  json.append(text, from, text.size() - from);
  json += '"';
  return json;
}

std::string json_of(const Message& message, std::string_view thought_field) {
  const bool apart = !message.thought.empty() && !thought_field.empty();
  const auto& content = apart ? message.spoken : message.content;
  auto json = "{\"role\":" + json_text(message.role);
  // A call of tools may have no content: then the fields say what the file does.
  if (!content.empty() || message.fields.find("\"tool_calls\":") == std::string::npos)
    json += ",\"content\":" + json_text(content);
  if (apart) json += "," + json_text(thought_field) + ":" + json_text(message.thought);
  if (!message.fields.empty()) json += "," + message.fields;
  return json + "}";
}

bool reads_member(std::string_view source, std::string_view name) {
  for (const char* form : {".{}", "'{}'", "\"{}\""})
    if (source.find(fmt::format(fmt::runtime(form), name)) != std::string_view::npos) return true;
  return false;
}

std::string_view field_of_thoughts(std::string_view source) {
  for (const std::string_view name : {"reasoning_content", "reasoning", "thinking", "thought"})
    if (reads_member(source, name)) return name;
  return "";
}

std::string beside_of(const std::vector<Message>& messages) {
  for (const auto& message : messages)
    if (!message.beside.empty()) return message.beside;
  return "";
}

bool plain_words(const std::vector<Message>& messages) {
  return std::all_of(messages.begin(), messages.end(), [](const Message& message) {
    return message.not_carried.empty() && message.beside.empty() && is_usual(message);
  });
}

void require_there(const std::vector<Message>& messages, std::string_view text) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_usual(messages[i])) continue;
    const auto content = trimmed(messages[i].content);
    const auto json = json_text(content);
    if (text.find(content) == std::string_view::npos &&
        text.find(json.substr(1, json.size() - 2)) == std::string_view::npos)
      throw RecipeError(fmt::format("message {}: role '{}': the chat template leaves it out", i + 1,
                                    printable(messages[i].role)));
  }
}

}  // namespace retort
