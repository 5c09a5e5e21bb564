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

// A list of messages, whatever the data set calls its roles: {"role", "content"}, or other keys for the two.
std::vector<Message> messages_of(const Json& list, std::string_view role_key, std::string_view content_key,
                                 std::string_view place);

}  // namespace retort
