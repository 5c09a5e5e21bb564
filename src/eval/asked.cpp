#include "eval/asked.h"

namespace retort {

std::vector<Message> Asked::opening() const {
  if (system.empty()) return {};
  return {{"system", system}};
}

std::string Asked::text(const Columns& columns, std::string own) const {
  return prompt.empty() ? own : fill_placeholders(prompt, columns, where + ": prompt");
}

}  // namespace retort
