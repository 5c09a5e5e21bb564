// Text from outside on its way to a terminal.
#pragma once
#include <string>
#include <string_view>

namespace retort {

// Newlines and tabs stay; other control bytes, and bytes that are no UTF-8, are escaped, so that the text
// cannot drive the terminal. Whole characters in, whole characters out.
std::string harmless(std::string_view text);

}  // namespace retort
