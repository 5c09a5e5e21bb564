#include "base/json.h"

#include <set>

#include "base/error.h"
#include "base/files.h"

namespace retort {
namespace {

constexpr size_t kDeepest = 64;

// Nesting is bounded before any tree is built, so that neither parser nor destructor can overflow the stack.
void require_shallow(std::string_view text, std::string_view file) {
  size_t depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      else if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) corrupt(file, fmt::format("byte {}", i), fmt::format("nested deeper than {} levels", kDeepest));
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view file) {
  require_shallow(text, file);
  std::vector<std::set<std::string>> keys;
  const auto refuse_duplicates = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      corrupt(file, parsed.get<std::string>(), "this key stands twice in one JSON object");
    return true;
  };
  try {
    return Json::parse(text, refuse_duplicates);
  } catch (const Json::parse_error& error) {
    corrupt(file, fmt::format("byte {}", error.byte), "is not valid JSON here");
  } catch (const Json::exception& error) {
    corrupt(file, "", "is not valid JSON");
  }
}

Json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_json(file.text(), file.name());
}

}  // namespace retort
