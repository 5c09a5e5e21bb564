// One value of an Arrow array as JSON.
#pragma once
#include <arrow/api.h>

#include <string>
#include <string_view>

namespace retort {

void append_json_text(std::string_view text, std::string& out);

// Whole numbers and decimals keep all their digits; NaN is null, infinities are the texts "inf" and "-inf";
// dates and times are texts of ISO 8601 (UTC where they have a time zone); a list is a list, a struct an
// object in its order, a map with text keys an object, other maps lists of {"key", "value"}. Bytes are a text
// where they are UTF-8, else {"bytes": how many}. std::invalid_argument for types that have no meaning as a
// text.
void append_json(const arrow::Array& array, int64_t at, std::string& out);

// Why a column of this type cannot be written; "" when it can.
std::string refused_type(const arrow::DataType& type);

}  // namespace retort
