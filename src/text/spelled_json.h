// JSON whose numbers are written again as the file spells them: 1.50, an identifier of 23 digits.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// A member of an object, or an element of a list (which has no name).
struct SpelledMember {
  std::string name;
  bool is_text = false;
  std::string value;  // the text itself; of anything else its JSON, spaced as Python's json.dumps does
};

// Of an object or a list that is valid JSON, in their order. RecipeError for anything else.
std::vector<SpelledMember> spelled_members(std::string_view json);

}  // namespace retort
