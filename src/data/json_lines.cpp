#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "data/readers.h"

namespace retort {

std::string_view without_bom(std::string_view content) {
  if (content.starts_with("\xEF\xBB\xBF")) content.remove_prefix(3);
  return content;
}

namespace {

// Letters, quotes and dashes of Windows-1252 stand alone among ASCII; what is damaged or packed does not look
// so.
bool looks_like_windows(std::string_view text) {
  const auto is_high = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  bool any = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_high(text[i])) {
      if (static_cast<unsigned char>(text[i]) < 0x20 && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
        return false;
      continue;
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool none = byte == 0x81 || byte == 0x8D || byte == 0x8F || byte == 0x90 || byte == 0x9D;
    if (none || (i + 2 < text.size() && is_high(text[i + 1]) && is_high(text[i + 2]))) return false;
    any = true;
  }
  return any;
}

}  // namespace

void require_text(std::string_view text, std::string_view file, std::string_view object) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = byte(i);
    if (lead == 0) corrupt(file, object, fmt::format("NUL byte at byte {}; expected text", i));
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xC2 && lead < 0xE0   ? 2
                          : lead >= 0xE0 && lead < 0xF0 ? 3
                          : lead >= 0xF0 && lead < 0xF5 ? 4
                                                        : 0;
    bool valid = length > 0 && i + length <= text.size();
    for (size_t k = 1; valid && k < length; ++k) valid = (byte(i + k) & 0xC0) == 0x80;
    if (valid && lead == 0xE0) valid = byte(i + 1) >= 0xA0;
    if (valid && lead == 0xED) valid = byte(i + 1) < 0xA0;  // surrogates
    if (valid && lead == 0xF0) valid = byte(i + 1) >= 0x90;
    if (valid && lead == 0xF4) valid = byte(i + 1) < 0x90;
    if (!valid)
      corrupt(file, object,
              fmt::format("invalid UTF-8 at byte {}; {}", i,
                          looks_like_windows(text) ? "it looks like Windows-1252: convert the file to UTF-8, "
                                                     "or, of a data source, set encoding: cp1252"
                                                   : "convert the file to UTF-8"));
    i += length;
  }
}

void read_lines(std::string_view content, std::string_view file,
                const std::function<void(std::string_view line, std::string place)>& take) {
  content = without_bom(content);
  size_t line_number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    auto line = content.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t\r\v\f") == std::string_view::npos) continue;
    auto place = fmt::format("{}:{}", file, line_number);
    if (line.size() > kLongestLine)
      corrupt(place, "", "line of " + bytes(line.size()) + "; at most " + bytes(kLongestLine) + " are read");
    if (line_number % 1024 == 0) leave_if_stopped("reading samples");
    take(line, std::move(place));
  }
}

namespace {

Json parse_record(std::string_view line, std::string_view place) {
  try {
    return parse_json(line, place);
  } catch (const FormatError& error) {
    if (!std::string_view(error.what()).ends_with(kBrokenJson)) throw;
    throw FormatError(std::string(error.what()) +
                      "; a comma, quote or brace is missing before this place; mend the line, or set "
                      "on_bad_record: skip");
  }
}

}  // namespace

Json parse_json_line(std::string_view line, std::string_view place) {
  require_text(line, place, "");
  auto object = parse_record(line, place);
  if (!object.is_object())
    corrupt(place, "", std::string("expected a JSON object on each line, found ") + object.type_name());
  return object;
}

void read_json_lines(std::string_view content, std::string_view file,
                     const std::function<void(const Json& object, std::string place)>& take) {
  size_t records = 0;
  read_lines(content, file, [&](std::string_view line, std::string place) {
    const auto object = parse_json_line(line, place);
    take(object, std::move(place));
    ++records;
  });
  if (records == 0) corrupt(file, "", "holds no records; expected one JSON object a line");
}

}  // namespace retort
