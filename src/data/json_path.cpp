#include "data/json_path.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "data/json_records.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr size_t kLetters = 26;

// The first step of a path, and what is left of it: ".name", or what stands between brackets.
struct Step {
  bool bracket = false;
  std::string_view name, rest;
};

std::optional<Step> first_step(std::string_view path) {
  if (path.starts_with('[')) {
    const auto close = path.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    return Step{true, path.substr(1, close - 1), path.substr(close + 1)};
  }
  if (path.starts_with('.')) path.remove_prefix(1);
  const auto end = std::min(path.find_first_of(".["), path.size());
  if (end == 0) return std::nullopt;
  return Step{false, path.substr(0, end), path.substr(end)};
}

std::optional<int64_t> number_of(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == 't') out += next == 'n' ? '\n' : '\t', ++i;
    else out += text[i];
  }
  return out;
}

bool is_json(std::string_view text) {
  try {
    return parse_json(text, "").is_structured();
  } catch (const Error&) { return false; }
}

bool is_list(std::string_view json) { return json.starts_with('['); }

// A value as a text.
std::string shown(const std::string& json) {
  if (json == "null") return "";
  if (json.starts_with('"')) return Json::parse(json).get<std::string>();
  return json;
}

std::string listed(const Columns& members) {
  std::string names;
  for (const auto& [name, value] : members) names += (names.empty() ? "" : ", ") + name;
  return printable(names);
}

// What stands before item `i`: "A. ", "b) ", "3. ".
std::string mark(std::string_view style, size_t i) {
  if (style[0] == '1') return std::to_string(i + 1) + std::string(style.substr(1));
  return std::string(1, static_cast<char>(style[0] + i)) + std::string(style.substr(1));
}

// `json` is a value as JSON.
TextInside walk(const std::string& json, std::string_view path);

TextInside all_items(const std::string& json, const Step& step) {
  const auto items = json_parts(json);
  const bool marked = step.name[0] != '*';
  if (marked && step.name[0] != '1' && items.size() > kLetters)
    return {"", fmt::format("{} items are more than there are letters", items.size())};
  const auto between = marked || step.name.size() == 1 ? "\n" : unescaped(step.name.substr(1));
  TextInside whole;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto one = walk(items[i].second, step.rest);
    if (!one.problem.empty()) return one;
    whole.text += (i == 0 ? "" : between) + (marked ? mark(step.name, i) : "") + one.text;
  }
  return whole;
}

TextInside walk(const std::string& json, std::string_view path) {
  if (path.empty()) return {shown(json), ""};
  const auto step = first_step(path);
  if (!step || (step->bracket && step->name.empty()))
    return {"", "expected .name, [number], [*], [A. ] or [1. ] behind a column"};
  // Some data sets write lists and objects as texts.
  const auto text = json.starts_with('"') ? shown(json) : json;
  if (!is_json(text)) return {"", fmt::format("'{}' is asked of what is no list or object", printable(path))};
  if (!step->bracket) {
    if (is_list(text)) return {"", fmt::format("'{}' is asked of a list", printable(step->name))};
    const auto members = json_parts(text);
    for (const auto& [name, value] : members)
      if (name == step->name) return walk(value, step->rest);
    return {"", fmt::format("there is no '{}'; there are {}", printable(step->name), listed(members))};
  }
  if (!is_list(text)) return {"", fmt::format("[{}] is asked of what is no list", printable(step->name))};
  if (const auto number = number_of(step->name)) {
    const auto items = json_parts(text);
    const auto size = static_cast<int64_t>(items.size());
    const auto at = *number < 0 ? size + *number : *number;
    if (at < 0 || at >= size) return {"", fmt::format("there is no item [{}]; there are {}", *number, size)};
    return walk(items[static_cast<size_t>(at)].second, step->rest);
  }
  if (step->name[0] == '*' ||
      (step->name.size() > 1 && std::string_view("Aa1").find(step->name[0]) != std::string_view::npos))
    return all_items(text, *step);
  return {"", fmt::format("expected [number], [*], [A. ] or [1. ], found [{}]", printable(step->name))};
}

}  // namespace

TextInside text_inside(std::string_view json, std::string_view path) {
  json = trimmed(json);  // of a table
  if (!is_json(json)) return {"", "the column holds no list or object"};
  return walk(std::string(json), path);
}

std::optional<std::string> json_inside(std::string_view object, std::string_view path) {
  std::string json(object);
  while (!path.empty()) {
    const auto step = first_step(path);
    if (!step || json.empty() || (json[0] != '{' && json[0] != '[')) return std::nullopt;
    auto members = json_parts(json);
    std::string* value = nullptr;
    if (!step->bracket && json[0] == '{') {
      for (auto& [name, one] : members)
        if (name == step->name) value = &one;
    } else if (const auto number = number_of(step->name); step->bracket && number && json[0] == '[') {
      const auto at = *number < 0 ? static_cast<int64_t>(members.size()) + *number : *number;
      if (at >= 0 && at < static_cast<int64_t>(members.size()))
        value = &members[static_cast<size_t>(at)].second;
    }
    if (!value) return std::nullopt;
    json = std::move(*value);
    path = step->rest;
  }
  return json;
}

}  // namespace retort
