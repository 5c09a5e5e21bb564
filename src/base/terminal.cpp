#include "base/terminal.h"

#include "base/error.h"

namespace retort {

std::string harmless(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find_first_of("\n\t"));
    for (size_t i = 0;
         i <
         line.size();) {  // printable() cuts at 120 bytes, so it gets small parts that end between characters
      size_t stop = std::min(line.size(), i + 16);
      while (stop < line.size() && stop > i + 1 && (static_cast<unsigned char>(line[stop]) & 0xC0) == 0x80)
        --stop;
      out += printable(line.substr(i, stop - i));
      i = stop;
    }
    text.remove_prefix(line.size());
    if (!text.empty()) {
      out += text[0];
      text.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace retort
