#include "recipe/renamed.h"

#include "base/error.h"

namespace retort {

namespace {

struct Renamed {
  const char *section, *old, *now;
};
// row_tokens was the longest sample in one section and the size of a pass in three others.
constexpr Renamed kRenamed[] = {{"data", "row_tokens", "sample_tokens"},
                                {"train.batch", "row_tokens", "pass_tokens"},
                                {"eval", "row_tokens", "pass_tokens"},
                                {"teacher", "row_tokens", "pass_tokens"}};

YamlNode* section_of(YamlNode& root, std::string_view path) {
  auto* node = &root;
  while (node && !path.empty()) {
    const auto dot = path.find('.');
    node = node->find(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return node;
}

std::string note(const Place& place, const Renamed& one) {
  return fmt::format("{}: {}.{} is called {}.{} now; the old name still works", describe(place), one.section,
                     one.old, one.section, one.now);
}

}  // namespace

std::string name_now(const std::string& path) {
  for (const auto& one : kRenamed)
    if (path == fmt::format("{}.{}", one.section, one.old)) return fmt::format("{}.{}", one.section, one.now);
  return "";
}

void rename_old_keys(YamlNode& root, std::vector<std::string>& notes) {
  for (const auto& one : kRenamed) {
    auto* section = section_of(root, one.section);
    if (!section || section->find(one.now)) continue;
    for (auto& entry : section->entries) {
      if (entry.key.text != one.old) continue;
      entry.key.text = one.now;
      notes.push_back(note(entry.key.place, one));
    }
  }
}

std::string with_name_now(const std::string& assignment, std::vector<std::string>& notes) {
  for (const auto& one : kRenamed) {
    const auto old = fmt::format("{}.{}=", one.section, one.old);
    if (!assignment.starts_with(old)) continue;
    notes.push_back(note({"command line: " + assignment, 0, 0}, one));
    return fmt::format("{}.{}={}", one.section, one.now, assignment.substr(old.size()));
  }
  return assignment;
}

}  // namespace retort
