// The kinds of JSON records.
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/record.h"

namespace retort {

// Every member as text: strings as they are, other values as JSON.
Columns json_columns(const Json& object);

// messages, sharegpt, alpaca, prompt_completion or text, by the keys; RecipeError when none fits.
std::string recognised_kind(const Json& object, std::string_view place);

// Fills messages or text; FormatError with the place for a missing key or a wrong type.
void fill_from_json(const Json& object, std::string_view kind, Record& record);

}  // namespace retort
