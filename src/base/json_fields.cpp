#include "base/json_fields.h"

#include "base/error.h"

namespace retort {

JsonPlace JsonPlace::at(std::string_view name) const {
  return {file, path.empty() ? std::string(name) : fmt::format("{}.{}", path, name), advice};
}

JsonPlace JsonPlace::at(size_t index) const { return {file, fmt::format("{}[{}]", path, index), advice}; }

void wrong_json(const JsonPlace& place, std::string_view expected, const Json* found) {
  constexpr size_t kShown = 40;
  auto problem = std::string("is missing");
  if (found) {
    auto shown = found->dump(-1, ' ', true);
    if (shown.size() > kShown) shown = shown.substr(0, kShown) + "...";
    problem = fmt::format("expected {}, found {}", expected, shown);
  }
  if (!place.advice.empty()) problem += "; " + place.advice;
  corrupt(place.file, place.path, problem);
}

}  // namespace retort
