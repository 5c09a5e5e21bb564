// ScanCode LicenseDB files: YAML front matter between two lines of "---", then the licence text.
#include <array>
#include <cstring>

#include "base/error.h"
#include "data/readers.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr size_t kLongestFrontMatter = 256 << 10;

// Only the plain `key: value` lines at the left edge are read; lists, blocks and nested values belong to
// other keys.
Columns front_matter(std::string_view head, std::string_view file) {
  Columns values;
  size_t number = 1;
  while (!head.empty()) {
    ++number;
    const auto end = std::min(head.find('\n'), head.size());
    auto line = head.substr(0, end);
    head.remove_prefix(std::min(end + 1, head.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto colon = line.find(':');
    if (line.empty() || line[0] == ' ' || line[0] == '-' || line[0] == '#' || colon == std::string_view::npos)
      continue;
    const auto key = std::string(line.substr(0, colon));
    if (key.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) continue;
    auto value = trimmed(line.substr(colon + 1));
    if (value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0])
      value = value.substr(1, value.size() - 2);
    for (const auto& [name, before] : values)
      if (name == key) corrupt(fmt::format("{}:{}", file, number), key, "stands twice in the front matter");
    values.emplace_back(key, std::string(value));
  }
  return values;
}

std::string value_of(const Columns& columns, std::string_view name) {
  for (const auto& [column, value] : columns)
    if (column == name) return value;
  return "";
}

// Lower case, white space runs as one space: phrases are found across line breaks.
std::string flattened(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '*' || c == '#') {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return out;
}

struct Phrase {
  std::string_view obligation;
  std::array<std::string_view, 5> words;  // any of them in the text
};
constexpr Phrase kPhrases[] = {
    {"keep notices",
     {"copyright notice", "retain the above", "this permission notice", "attribution notices",
      "keep intact"}},
    {"state changes",
     {"modified files", "stating that you changed", "indicate if changes were made", "plainly marked as such",
      "prominent notices"}},
    {"no endorsement",
     {"endorse or promote", "used in advertising", "imply endorsement",
      "without specific prior written permission", "use the trade names"}},
    {"non-commercial only",
     {"non-commercial purposes", "noncommercial purposes", "non-commercial use", "noncommercial use",
      "not for commercial"}},
    {"no derivatives",
     {"noderivatives", "no derivative works", "may not modify", "shall not modify", "not reverse engineer"}},
    {"network use counts",
     {"remotely through a computer network", "remote network interaction", "interacting with it remotely",
      "network server", "external deployment"}},
};

}  // namespace

std::string licence_obligations(std::string_view category, std::string_view text) {
  const auto flat = flattened(text);
  std::vector<std::string_view> found;
  for (const auto& phrase : kPhrases)
    for (const auto word : phrase.words)
      if (!word.empty() &&
          ::memmem(flat.data(), flat.size(), word.data(), word.size())) {  // several times faster than find()
        found.push_back(phrase.obligation);
        break;
      }
  if (category == "Copyleft") found.insert(found.end(), {"disclose source", "same licence for the whole"});
  if (category == "Copyleft Limited")
    found.insert(found.end(), {"disclose source", "same licence for the changed files"});
  std::string joined;
  for (const auto obligation : found) joined += (joined.empty() ? "" : "; ") + std::string(obligation);
  return joined.empty() ? "none" : joined;
}

void read_licence(std::string_view content, std::string_view file, const TakeColumns& take) {
  content = without_bom(content);
  require_text(content, file, "");
  const auto first_line = content.substr(0, content.find('\n'));
  if (trimmed(first_line) != "---" || first_line.size() > 8)
    corrupt(file, "line 1", "expected '---' before the front matter");
  auto rest = content.substr(std::min(first_line.size() + 1, content.size()));
  size_t end = 0;
  bool closed = false;
  for (; end < rest.size() && end <= kLongestFrontMatter;) {
    const auto stop = std::min(rest.find('\n', end), rest.size());
    if (trimmed(rest.substr(end, stop - end)) == "---" && rest[end] == '-') {
      closed = true;
      break;
    }
    end = stop + 1;
  }
  if (!closed)
    corrupt(file, "", "the front matter has no closing '---' within " + bytes(kLongestFrontMatter));
  const auto values = front_matter(rest.substr(0, end), file);
  const auto text = trimmed(rest.substr(std::min(rest.find('\n', end), rest.size())));
  const auto key = value_of(values, "key"), category = value_of(values, "category");
  if (key.empty() || category.empty()) corrupt(file, "front matter", "needs 'key' and 'category'");
  const auto yes = [&](std::string_view name) {
    return std::string(value_of(values, name) == "yes" || value_of(values, name) == "true" ? "yes" : "no");
  };
  take({{"key", key},
        {"name", value_of(values, "name")},
        {"short_name", value_of(values, "short_name")},
        {"category", category},
        {"owner", value_of(values, "owner")},
        {"spdx", value_of(values, "spdx_license_key")},
        {"is_exception", yes("is_exception")},
        {"osi",
         value_of(values, "osi_license_key").empty() && value_of(values, "osi_url").empty() ? "no" : "yes"},
        {"obligations", licence_obligations(category, text)},
        {"text", std::string(text)}},
       std::string(file));
}

}  // namespace retort
