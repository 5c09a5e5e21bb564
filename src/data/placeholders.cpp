#include <charconv>

#include "base/error.h"
#include "data/json_path.h"
#include "data/record.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

// At most `limit` bytes, ending after a whole character and, where there is one in the last quarter, before a
// space.
std::string_view shortened(std::string_view value, size_t limit) {
  if (value.size() <= limit) return value;
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) --end;
  const auto space = value.substr(0, end).find_last_of(" \n\t");
  if (space != std::string_view::npos && space >= end - end / 4) end = space;
  return value.substr(0, end);
}

const std::string* find(std::string_view name, const Columns& columns) {
  for (const auto& [column, text] : columns)
    if (column == name) return &text;
  return nullptr;
}

// "answers.text": of the longest beginning that is a column, what the rest names inside of it.
std::string value_inside(std::string_view name, const Columns& columns, std::string_view key_path) {
  for (auto end = name.find_last_of(".["); end != std::string_view::npos && end > 0;
       end = name.find_last_of(".[", end - 1)) {
    const auto* column = find(name.substr(0, end), columns);
    if (!column) continue;
    const auto [text, problem] = text_inside(*column, name.substr(end));
    if (!problem.empty())
      throw RecipeError(fmt::format("{}: {{{}}}: {}", key_path, printable(name), problem));
    return text;
  }
  std::vector<std::string> names;
  std::string listed;
  for (const auto& [column, text] : columns) {
    names.push_back(column);
    listed += (listed.empty() ? "" : ", ") + column;
  }
  const auto near = nearest(name, names);
  throw RecipeError(fmt::format("{}: the data has no column '{}'{}; columns are {}", key_path,
                                printable(name), near.empty() ? "" : " (did you mean '" + near + "'?)",
                                printable(listed)));
}

// Calls `text` for each character of the pattern that stands for itself and `column` for each {name:limit}.
template <class Text, class Column>
void walk(std::string_view pattern, std::string_view key_path, const Text& text, const Column& column) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if ((c == '{' || c == '}') && i + 1 < pattern.size() && pattern[i + 1] == c) {
      text(c);
      ++i;
      continue;
    }
    if (c == '}') throw RecipeError(fmt::format("{}: '}}' without '{{'; write }}}} for a brace", key_path));
    if (c != '{') {
      text(c);
      continue;
    }
    const auto close = pattern.find('}', i);
    if (close == std::string_view::npos)
      throw RecipeError(fmt::format("{}: '{{' without '}}'; write {{{{ for a brace", key_path));
    const auto inside = pattern.substr(i + 1, close - i - 1);
    // "{a[*: ]}": a colon within brackets is part of the name.
    const auto bracket = inside.rfind(']');
    auto colon = inside.rfind(':');
    if (colon != std::string_view::npos && bracket != std::string_view::npos && colon < bracket)
      colon = std::string_view::npos;
    size_t limit = std::string_view::npos;
    if (colon != std::string_view::npos) {
      const auto digits = inside.substr(colon + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), limit);
      if (error != std::errc() || end != digits.data() + digits.size() || limit == 0)
        throw RecipeError(
            fmt::format("{}: expected a number of bytes in '{{{}}}'", key_path, printable(inside)));
    }
    column(inside.substr(0, colon), limit);
    i = close;
  }
}

}  // namespace

std::string fill_placeholders(std::string_view pattern, const Columns& columns, std::string_view key_path,
                              bool* used_empty) {
  std::string out;
  walk(
      pattern, key_path, [&](char c) { out += c; },
      [&](std::string_view name, size_t limit) {
        std::string inner;
        const std::string* value = find(name, columns);
        if (!value) {
          inner = value_inside(name, columns, key_path);
          value = &inner;
        }
        if (used_empty && trimmed(*value).empty()) *used_empty = true;
        out += limit == std::string_view::npos ? std::string_view(*value) : shortened(*value, limit);
      });
  return out;
}

std::vector<std::string> placeholder_names(std::string_view pattern, std::string_view key_path) {
  std::vector<std::string> names;
  walk(
      pattern, key_path, [](char) {}, [&](std::string_view name, size_t) { names.emplace_back(name); });
  return names;
}

}  // namespace retort
