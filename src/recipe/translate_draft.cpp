#include "recipe/translate_draft.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/letters.h"
#include "recipe/keys.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

bool is_word(const std::string& text) {
  return !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
             std::string::npos;
}

const Key* our_key(const std::string& path) {
  for (const auto& key : recipe_keys())
    if (key.path == path) return &key;
  return nullptr;
}

}  // namespace

std::string shown(const YamlNode& value) {
  switch (value.kind) {
    case YamlNode::Kind::null: return "null";
    case YamlNode::Kind::list: return fmt::format("a list of {}", value.items.size());
    case YamlNode::Kind::map: return "with keys of its own";
    case YamlNode::Kind::scalar: break;
  }
  constexpr size_t kLongest = 60;
  const auto text = printable(value.text);
  return text.size() <= kLongest ? text : printable(value.text.substr(0, kLongest)) + "...";
}

bool is_off(const YamlNode& value) {
  if (value.kind == YamlNode::Kind::null) return true;
  if (value.kind != YamlNode::Kind::scalar) return value.items.empty() && value.entries.empty();
  if (const auto number = number_of(value)) return *number == 0 || *number == -1;
  const auto text = lower_case(value.text);
  for (const char* word : {"", "false", "no", "off", "none", "null"})
    if (text == word) return true;
  return false;
}

bool is_true(const YamlNode* value) {
  if (!value || value->kind != YamlNode::Kind::scalar) return false;
  const auto text = lower_case(value->text);
  return text == "true" || text == "yes" || text == "on";
}

std::optional<double> number_of(const YamlNode& value) {
  if (value.kind != YamlNode::Kind::scalar) return std::nullopt;
  std::string_view text = value.text;
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0;
  const auto [rest, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || code != std::errc{} || rest != text.data() + text.size() || !std::isfinite(number))
    return std::nullopt;
  return number;
}

std::vector<std::string> names_of(const YamlNode& value) {
  std::vector<std::string> names;
  if (value.kind == YamlNode::Kind::list)
    for (const auto& item : value.items)
      if (item.kind == YamlNode::Kind::scalar) names.push_back(item.text);
  if (value.kind != YamlNode::Kind::scalar) return names;
  for (size_t begin = 0; begin <= value.text.size();) {
    const auto end = std::min(value.text.find(',', begin), value.text.size());
    auto name = value.text.substr(begin, end - begin);
    while (!name.empty() && name.front() == ' ') name.erase(0, 1);
    while (!name.empty() && name.back() == ' ') name.pop_back();
    if (!name.empty()) names.push_back(std::move(name));
    begin = end + 1;
  }
  return names;
}

std::string yaml_number(double value) {
  if (std::abs(value) < 1e15 && value == std::floor(value))
    return fmt::format("{}", static_cast<int64_t>(value));
  return shortest(value);
}

std::string yaml_of(const YamlNode& value) {
  std::string inside;
  switch (value.kind) {
    case YamlNode::Kind::null: return "null";
    case YamlNode::Kind::list:
      for (const auto& item : value.items) inside += (inside.empty() ? "" : ", ") + yaml_of(item);
      return "[" + inside + "]";
    case YamlNode::Kind::map:
      for (const auto& [key, item] : value.entries)
        inside += (inside.empty() ? "" : ", ") + yaml_text(key.text) + ": " + yaml_of(item);
      return "{" + inside + "}";
    case YamlNode::Kind::scalar: break;
  }
  if (!value.quoted) {
    if (is_true(&value)) return "true";
    if (lower_case(value.text) == "false") return "false";
    if (const auto number = number_of(value)) return yaml_number(*number);
  }
  return yaml_text(value.text);
}

std::string yaml_names(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + yaml_word(name);
  return "[" + list + "]";
}

std::string yaml_word(const std::string& word) {
  const auto text = lower_case(word);
  for (const char* other : {"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n"})
    if (text == other) return yaml_text(word);
  return is_word(word) ? word : yaml_text(word);
}

std::string as_pattern(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    pattern += c;
    if (c == '{' || c == '}') pattern += c;
  }
  return pattern;
}

const YamlNode* Draft::take(const std::string& key) {
  read_.insert(key);
  const auto* value = root_.find(key);
  return value && value->kind != YamlNode::Kind::null ? value : nullptr;
}

std::string Draft::text(const std::string& key) {
  const auto* value = take(key);
  if (!value) return "";
  if (value->kind != YamlNode::Kind::scalar)
    refuse(*value, key, fmt::format("expected a text, found {}", shown(*value)));
  return value->text;
}

std::optional<double> Draft::number(const std::string& key) {
  const auto* value = take(key);
  if (!value || (value->kind == YamlNode::Kind::scalar && value->text.empty())) return std::nullopt;
  const auto found = number_of(*value);
  if (!found && !is_off(*value))
    refuse(*value, key, fmt::format("expected a number, found '{}'", shown(*value)));
  return found;
}

std::optional<int64_t> Draft::whole(const std::string& key) {
  const auto value = number(key);
  if (!value) return std::nullopt;
  if (*value != std::floor(*value) || std::abs(*value) > 1e15)
    refuse(*root_.find(key), key, fmt::format("expected a whole number, found '{}'", *value));
  return static_cast<int64_t>(*value);
}

bool Draft::truth(const std::string& key) {
  const auto* value = take(key);
  if (!value) return false;
  if (is_true(value) || number_of(*value) == 1.0) return true;
  if (!is_off(*value)) refuse(*value, key, fmt::format("expected true or false, found '{}'", shown(*value)));
  return false;
}

std::vector<std::string> Draft::names(const std::string& key) {
  const auto* value = take(key);
  return value ? names_of(*value) : std::vector<std::string>();
}

void Draft::leave(const std::string& key, const YamlNode& value, const std::string& why) {
  left_out.push_back(fmt::format("{} ({}): {}", printable(key), shown(value), why));
}

void Draft::leave(const std::string& key, const std::string& why) {
  read_.insert(key);
  const auto* value = root_.find(key);
  if (value && !is_off(*value)) leave(key, *value, why);
}

void Draft::look(const std::string& path, const std::string& what) {
  out.note(path, "LOOK HERE: " + what);
  look_here.push_back(fmt::format("{}: {}", path, what));
}

void Draft::by_default(const std::string& path, const std::string& yaml) {
  if (!out.has(path)) out.set(path, yaml, fmt::format("the default of {}", name_of(tool)));
}

void Draft::copy_keys() {
  for (const auto& row : other_keys()) {
    if (!row.copied || !row.of(tool)) continue;
    const auto* ours = our_key(row.ours);
    for (const auto& key : words_of(row.keys)) {
      const auto* value = take(key);
      if (!value || (value->kind == YamlNode::Kind::scalar && value->text.empty())) continue;
      const bool numeric =
          ours->expected.starts_with("a number") || ours->expected.starts_with("a whole number");
      if (numeric && is_off(*value) && !number_of(*value)) continue;  // false, none
      if (numeric && !number_of(*value))
        refuse(*value, key, fmt::format("expected {}, found '{}'", ours->expected, shown(*value)));
      if (ours->expected.starts_with("true or false")) {
        out.set(row.ours, truth(key) ? "true" : "false", key);
        continue;
      }
      const bool list = ours->expected.starts_with("a list");
      out.set(row.ours,
              numeric ? yaml_number(*number_of(*value))
              : list  ? yaml_names(names_of(*value))
                      : yaml_of(*value),
              key);
    }
  }
}

void Draft::leave_the_rest() {
  std::string off;
  for (const auto& [key, value] : root_.entries) {
    if (read_.contains(key.text)) continue;
    if (is_off(value)) {
      off += (off.empty() ? "" : ", ") + printable(key.text);
      continue;
    }
    const auto* row = find_other_key(tool, key.text);
    const std::string why =
        !row                 ? fmt::format("no key of {} that is known here", name_of(tool))
        : *row->ours == '\0' ? row->note
                             : fmt::format("is for {}; {}", row->ours, *row->note ? row->note : "look there");
    leave(key.text, value, why);
  }
  if (!off.empty()) left_out.push_back("off or empty there, and left out: " + off);
}

void Draft::set_path(const std::string& ours, const std::string& path, const std::string& remark) {
  out.set(ours, yaml_text(path), remark);
  std::error_code none;
  if (std::filesystem::exists(path, none)) return;
  if (path.find_first_of("*?[") != std::string::npos) return;  // a pattern
  look(ours,
       "no such file or folder here; where it is the name of one on a hub, download it and write its "
       "path");
}

void Draft::refuse(const YamlNode& at, const std::string& key, const std::string& problem) const {
  throw RecipeError(
      fmt::format("{}: {}: {}; nothing was written", describe(at.place), printable(key), problem));
}

}  // namespace retort
