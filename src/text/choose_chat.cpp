// Which template a recipe means.
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "text/chat.h"
#include "text/jinja_chat.h"
#include "text/spelled_json.h"
#include "text/template_engine.h"

namespace retort {
namespace {

std::vector<std::string> built_in_names() {
  std::vector<std::string> names;
  for (const auto& entry : chat_templates()) names.push_back(entry.name);
  return names;
}

std::vector<std::string> names_of(const OwnTemplates& own) {
  std::vector<std::string> names;
  for (const auto& [name, text] : own.named) names.push_back(printable(name));
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

const std::string* named_text(const OwnTemplates& own, std::string_view name) {
  for (const auto& [other, text] : own.named)
    if (other == name) return &text;
  return nullptr;
}

bool is_jinja(std::string_view text) {
  return text.find("{{") != std::string_view::npos || text.find("{%") != std::string_view::npos;
}

// Templates live as long as the program: whoever renders holds a reference, and there are few.
const ChatTemplate& kept_template(const std::string& source, const Tokenizer& tokenizer,
                                  const ChatTemplate* built_in) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<const ChatTemplate>> all;
  const std::lock_guard lock(mutex);
  auto& entry = all[sha256(source) + tokenizer.hash() + (built_in ? built_in->name : "")];
  if (!entry) entry = std::make_unique<const ChatTemplate>(jinja_chat_template(source, tokenizer, built_in));
  return *entry;
}

const ChatTemplate& template_of_text(const std::string& source, const WantedTemplate& wanted,
                                     const Tokenizer& tokenizer) {
  for (const auto& [name, value] : wanted.arguments) {
    const bool word = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_';
    });
    if (!word || source.find(name) == std::string::npos)
      throw RecipeError(
          fmt::format("{}_arguments.{}: the chat template has no such switch", wanted.key, printable(name)));
  }
  try {
    if (!wanted.arguments.empty())
      return kept_template(with_arguments(source, wanted.arguments), tokenizer, nullptr);
    return kept_template(source, tokenizer, chat_template_by_source(source));
  } catch (const RecipeError& error) { throw RecipeError(fmt::format("{}: {}", wanted.key, error.what())); }
}

bool is_of_this_program(const std::string& name) {
  return name.empty() || name == "auto" || is_jinja(name) || find_chat_template(name) ||
         std::filesystem::is_regular_file(name);
}

[[noreturn]] void refuse_name(const WantedTemplate& wanted, const std::string& near,
                              const OwnTemplates& own = {}) {
  const auto of_model = names_of(own);
  throw RecipeError(fmt::format(
      "{}: '{}' is no known chat template and no file{}; expected auto, a file, a text in Jinja, {}or one of "
      "{}",
      wanted.key, printable(wanted.name), near.empty() ? "" : "; did you mean '" + near + "'?",
      of_model.empty() ? "" : listed(of_model) + " of the model, ", listed(built_in_names())));
}

// A built-in template has one switch at most, and then two names.
const ChatTemplate& switched(const ChatTemplate& built_in, const WantedTemplate& wanted) {
  constexpr std::string_view kThinking = "-thinking";
  const auto* chat = &built_in;
  for (const auto& [name, value] : wanted.arguments) {
    const bool thinks = chat->name.ends_with(kThinking);
    const auto plain = thinks ? chat->name.substr(0, chat->name.size() - kThinking.size()) : chat->name;
    const auto* other = find_chat_template(thinks ? plain : plain + std::string(kThinking));
    if (!other || (name != "thinking" && name != "enable_thinking") || (value != "true" && value != "false"))
      throw RecipeError(
          fmt::format("{}_arguments.{}: the built-in template {} has no such switch; set {} to a file "
                      "or a text in Jinja",
                      wanted.key, printable(name), built_in.name, wanted.key));
    if ((value == "true") != thinks) chat = other;
  }
  return *chat;
}

bool brings_tools(const std::vector<Message>& messages) {
  for (const auto& message : messages)
    if (message.beside.find("\"tools\":") != std::string::npos)
      for (const auto& field : spelled_members("{" + message.beside + "}"))
        if (field.name == "tools" && field.value != "[]") return true;
  return false;
}

// `chat` for all records but those with tools, which `source` renders.
const ChatTemplate& with_tools(const ChatTemplate& chat, const std::string& source,
                               const WantedTemplate& wanted, const Tokenizer& tokenizer) {
  auto theirs = wanted;  // a switch that only the other text has says nothing here
  std::erase_if(theirs.arguments,
                [&](const auto& argument) { return source.find(argument.first) == std::string::npos; });
  const auto& tools = template_of_text(source, theirs, tokenizer);
  static std::mutex mutex;
  static std::map<std::pair<const ChatTemplate*, const ChatTemplate*>, std::unique_ptr<const ChatTemplate>>
      all;
  const std::lock_guard lock(mutex);
  auto& entry = all[{&chat, &tools}];
  if (entry) return *entry;
  auto both = chat;
  both.tools_source = tools.source;
  for (const auto& stop : tools.stops)
    if (std::find(both.stops.begin(), both.stops.end(), stop) == both.stops.end()) both.stops.push_back(stop);
  both.render = [&chat, &tools](const std::vector<Message>& messages, bool header) {
    return (brings_tools(messages) ? tools : chat).render(messages, header);
  };
  both.prepare = [&chat, &tools](std::span<const std::vector<Message>* const> conversations) {
    std::vector<const std::vector<Message>*> with, without;
    for (const auto* messages : conversations) (brings_tools(*messages) ? with : without).push_back(messages);
    if (chat.prepare && !without.empty()) chat.prepare(without);
    if (tools.prepare && !with.empty()) tools.prepare(with);
  };
  entry = std::make_unique<const ChatTemplate>(std::move(both));
  return *entry;
}

}  // namespace

void require_template_name(const WantedTemplate& wanted) {
  const auto& name = wanted.name;
  if (is_of_this_program(name)) return;
  if (const auto near = nearest(name, built_in_names()); !near.empty()) refuse_name(wanted, near);
}

const ChatTemplate& choose_chat_template(const WantedTemplate& wanted, const OwnTemplates& own,
                                         const Tokenizer& tokenizer) {
  const auto& name = wanted.name;
  if (name == "auto" || name.empty()) {
    if (own.text.empty())
      throw RecipeError(
          own.named.empty()
              ? fmt::format("{}: the model brings no chat template; set {} to one of {}, or to a file",
                            wanted.key, wanted.key, listed(built_in_names()))
              : fmt::format("{}: the model brings no chat template of the name default; set {} to one of its "
                            "own, {}",
                            wanted.key, wanted.key, listed(names_of(own))));
    if (const auto* built_in = find_chat_template(own.text)) return switched(*built_in, wanted);
    const auto& chat = template_of_text(std::string(own.text), wanted, tokenizer);
    const auto* tools = named_text(own, "tool_use");
    return tools ? with_tools(chat, *tools, wanted, tokenizer) : chat;
  }
  if (is_jinja(name)) return template_of_text(name, wanted, tokenizer);
  if (const auto* source = named_text(own, name)) return template_of_text(*source, wanted, tokenizer);
  if (name == "default" && is_jinja(own.text))
    return template_of_text(std::string(own.text), wanted, tokenizer);
  if (const auto* named = find_chat_template(name)) {
    // By its name, with the model's own text where that is the same: it may know tools.
    if (chat_template_by_source(own.text) == named)
      return template_of_text(std::string(own.text), wanted, tokenizer);
    return switched(*named, wanted);
  }
  if (std::filesystem::is_regular_file(name))
    return template_of_text(read_text(name, kLongestTemplate), wanted, tokenizer);
  auto names = built_in_names();
  for (const auto& one : names_of(own)) names.push_back(one);
  refuse_name(wanted, nearest(name, names), own);
}

const ChatTemplate& choose_chat_template(const WantedTemplate& wanted, std::string_view own_text,
                                         const Tokenizer& tokenizer) {
  return choose_chat_template(wanted, OwnTemplates{own_text}, tokenizer);
}

const ChatTemplate* own_chat_template(const OwnTemplates& own, const Tokenizer& tokenizer) {
  if (own.text.empty()) return nullptr;
  try {
    return &choose_chat_template({}, own, tokenizer);
  } catch (const RecipeError&) { return nullptr; }
}

bool has_tokens_of(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  const auto pieces = chat.render({{"user", "a"}}, true);
  return std::all_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return !piece.control || piece.text == kBeginOfText || tokenizer.find(piece.text);
  });
}

}  // namespace retort
