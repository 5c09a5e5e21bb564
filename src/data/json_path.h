// Values inside of a column that holds JSON.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace retort {

struct TextInside {
  std::string text;
  std::string problem;  // why there is none
};

// What `path` (".text", "[0]", "[-1].label") names inside of `json`: strings as they are, null as nothing,
// other values as JSON in the file's spelling. All items of a list, each taken further by the rest of the
// path: "[*]" on a line each, "[*, ]" with ", " between them (\n and \t are what they are), "[A. ]" and
// "[1) ]" on lines that are lettered or numbered.
TextInside text_inside(std::string_view json, std::string_view path);

// The same as JSON and without items: "messages", "dialogue.turns", "data[0].turns" of an object; nullopt
// where it is not there.
std::optional<std::string> json_inside(std::string_view object, std::string_view path);

}  // namespace retort
