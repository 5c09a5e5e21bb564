#include "recipe/recipe_writer.h"

#include <fmt/format.h>

#include "recipe/keys.h"

namespace retort {

namespace {

// The same lines with "- " in the place of the two spaces before the first key.
std::string as_item(std::string lines, int depth) {
  for (size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1) {
    const auto first = lines.find_first_not_of(' ', begin);
    if (lines[first] == '#') continue;
    lines[begin + static_cast<size_t>(2 * depth) - 2] = '-';
    break;
  }
  return lines;
}

}  // namespace

// A comment ends with its line: what is quoted in one must not.
std::string comment_line(std::string text) {
  for (auto& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return text;
}

void RecipeWriter::set(const std::string& path, std::string yaml, std::string remark) {
  values_[path] = {std::move(yaml), comment_line(std::move(remark))};
}

void RecipeWriter::note(const std::string& path, std::string text) {
  notes_[path].push_back(comment_line(std::move(text)));
}

std::string RecipeWriter::value(const std::string& path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? "" : found->second.yaml;
}

std::string RecipeWriter::remark(const std::string& path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? "" : found->second.remark;
}

std::string RecipeWriter::notes(const std::string& path, const std::string& indent) const {
  std::string text;
  if (const auto found = notes_.find(path); found != notes_.end())
    for (const auto& note : found->second) text += fmt::format("{}# {}\n", indent, note);
  return text;
}

std::string RecipeWriter::section(const std::string& keys, const std::string& mine, int depth) const {
  const std::string indent(static_cast<size_t>(2 * depth), ' ');
  std::string text;
  for (const auto& key : recipe_keys()) {
    if (!key.path.starts_with(keys)) continue;
    const auto name = key.path.substr(keys.size());
    if (name.empty() || name.find_first_of(".[") != std::string::npos) continue;
    const auto path = mine + name;
    std::string inside;
    if (key.list) {
      for (int i = 0;; ++i) {
        auto item = section(key.path + "[].", fmt::format("{}.{}.", path, i), depth + 2);
        if (item.empty()) break;
        inside += as_item(std::move(item), depth + 2);
      }
    } else if (key.section) {
      inside = section(key.path + ".", path + ".", depth + 1);
    }
    if (!inside.empty()) {
      text += fmt::format("{}{}{}{}:\n{}", depth == 0 && !text.empty() ? "\n" : "", notes(path, indent),
                          indent, name, inside);
    } else if (const auto found = values_.find(path); found != values_.end()) {
      const auto& [yaml, remark] = found->second;
      text += fmt::format("{}{}{}: {}{}{}\n", notes(path, indent), indent, name, yaml,
                          remark.empty() ? "" : "   # ", remark);
    }
  }
  return text;
}

}  // namespace retort
