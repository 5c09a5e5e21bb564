#pragma once
#include <string>
#include <string_view>

namespace retort {

// RFC 4648, with padding; false for anything else.
bool decode_base64(std::string_view text, std::string& bytes);

}  // namespace retort
