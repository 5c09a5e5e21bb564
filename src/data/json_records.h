// The kinds of JSON records.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/record.h"

namespace retort {

// Every member as text, in the order of the line: strings as they are, other values as compact JSON that
// keeps the order of keys and the spelling of numbers (1.50 stays 1.50, an identifier of 23 digits keeps them
// all). `line` was parsed before.
Columns json_columns(std::string_view line);

// The members of an object (or the items of a list, without names) as JSON that keeps both too.
Columns json_parts(std::string_view json);

// "expected a string, found number; write it in quotes, ...": what is said of a value that is no text.
std::string expected_string(const Json& value);

// messages, sharegpt, alpaca, prompt_completion or text, by the keys; RecipeError when none fits.
std::string recognised_kind(const Json& object, std::string_view place);

// Whether records of this kind give this key to the model. Of keys that only refuse a record, or say that it
// is not learned (label, weight, train, images, ...), it is false.
bool reads_key(std::string_view kind, std::string_view key);

// What a record says beside its messages (tools, documents, switches), as members of a JSON object; "" when
// nothing. FormatError for what is no list.
std::string beside_messages(const Json& object, std::string_view line, std::string_view place);

// Fills messages or text; FormatError with the place for a missing key, a wrong type, and for fields that
// mean something which is not carried (images, KTO's `label: false`, ...). `reasoning`: SourceSpec's.
// `line`: what `object` was parsed from.
void fill_from_json(const Json& object, std::string_view line, std::string_view kind,
                    std::string_view reasoning, Record& record);

// A list of messages: {"role", "content"} or {"from", "value"}. What a message says of being learned (weight,
// train, loss) is heard; what it says besides (tool_calls, name, ...) goes into its fields, for templates
// that write it; images and audio are refused by name. `text`: what `list` was parsed from, asked for where
// it is needed.
std::vector<Message> messages_of(const Json& list, std::string_view place,
                                 std::string_view reasoning = "refuse",
                                 const std::function<std::string()>& text = nullptr);

}  // namespace retort
