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
#include "text/template_engine.h"

namespace retort {
namespace {

std::string listed_names() {
  std::string listed;
  for (const auto& entry : chat_templates()) listed += (listed.empty() ? "" : ", ") + entry.name;
  return listed;
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

}  // namespace

void require_template_name(const WantedTemplate& wanted) {
  const auto& name = wanted.name;
  if (name.empty() || name == "auto" || is_jinja(name) || find_chat_template(name)) return;
  if (std::filesystem::is_regular_file(name)) return;
  std::vector<std::string> names;
  for (const auto& entry : chat_templates()) names.push_back(entry.name);
  const auto near = nearest(name, names);
  throw RecipeError(fmt::format(
      "{}: '{}' is no known chat template and no file{}; expected auto, a file, a text in Jinja, or one of "
      "{}",
      wanted.key, printable(name), near.empty() ? "" : "; did you mean '" + near + "'?", listed_names()));
}

const ChatTemplate& choose_chat_template(const WantedTemplate& wanted, std::string_view jinja_source,
                                         const Tokenizer& tokenizer) {
  require_template_name(wanted);
  if (wanted.name == "auto" || wanted.name.empty()) {
    if (jinja_source.empty())
      throw RecipeError(
          fmt::format("{}: the model brings no chat template; set {} to one of {}, or to a file", wanted.key,
                      wanted.key, listed_names()));
    return template_of_text(std::string(jinja_source), wanted, tokenizer);
  }
  if (is_jinja(wanted.name)) return template_of_text(wanted.name, wanted, tokenizer);
  if (const auto* named = find_chat_template(wanted.name)) {
    // By its name, with the model's own text where that is the same: it may know tools.
    if (chat_template_by_source(jinja_source) == named)
      return template_of_text(std::string(jinja_source), wanted, tokenizer);
    if (!wanted.arguments.empty())
      throw RecipeError(
          fmt::format("{}_arguments: the built-in template {} has no switches; set {} to a file "
                      "or a text in Jinja",
                      wanted.key, named->name, wanted.key));
    return *named;
  }
  return template_of_text(read_text(wanted.name, kLongestTemplate), wanted, tokenizer);
}

const ChatTemplate* own_chat_template(std::string_view jinja_source, const Tokenizer& tokenizer) {
  if (jinja_source.empty()) return nullptr;
  try {
    return &choose_chat_template({}, jinja_source, tokenizer);
  } catch (const RecipeError&) { return nullptr; }
}

}  // namespace retort
