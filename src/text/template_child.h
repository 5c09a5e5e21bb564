// What runs inside the child of template_engine.h, and the bytes that go to and fro.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_engine.h"

namespace retort {

// Where the child stands, in memory that both processes see: what it was at when it died.
struct TemplateProgress {
  uint64_t begun = 0;   // renderings begun since the last request came; 0: it reads the template
  uint64_t shared = 0;  // renderings that the run of a whole conversation gave, since the child began
};

// Answers requests until its file 3 ends. A request is its length (64 bits) and: the number of jobs; of each
// the messages, `beside`, and what is wanted. An answer is, for each rendering in order, 'r' and its parts
// ('g' given, 't' the template's own, 0 the end) or 'p' and a problem. Numbers are 32 bits, texts have their
// length before them.
[[noreturn]] void serve_template(std::string_view source,
                                 const std::vector<std::pair<std::string, std::string>>& tokens, int seconds,
                                 Beginnings beginnings, TemplateProgress& progress);

// The exit code of a child whose rendering is longer than kLongestRendering.
inline constexpr int kTemplateTooLong = 9;

}  // namespace retort
