// The kinds of JSON records.
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/record.h"

namespace retort {

// Every member as text, in the order of the line: strings as they are, other values as compact JSON that
// keeps the order of keys and the spelling of numbers (1.50 stays 1.50, an identifier of 23 digits keeps them
// all). `line` was parsed before.
Columns json_columns(std::string_view line);

// messages, sharegpt, alpaca, prompt_completion or text, by the keys; RecipeError when none fits.
std::string recognised_kind(const Json& object, std::string_view place);

// Fills messages or text; FormatError with the place for a missing key, a wrong type, and for fields that
// mean something which is not carried (tools, images, KTO's `label: false`, ...). `reasoning`: SourceSpec's.
void fill_from_json(const Json& object, std::string_view kind, std::string_view reasoning, Record& record);

// A list of messages: {"role", "content"} or {"from", "value"}. What a message says of being learned (weight,
// train, loss) is heard; fields and roles that are not carried are refused by name.
std::vector<Message> messages_of(const Json& list, std::string_view place,
                                 std::string_view reasoning = "refuse");

}  // namespace retort
