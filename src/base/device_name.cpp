#include "base/device_name.h"

#include <charconv>

namespace retort {

std::optional<int> gpu_number(std::string_view name) {
  constexpr std::string_view kCuda = "cuda", kNumbered = "cuda:";
  if (name == kCuda) return 0;
  if (!name.starts_with(kNumbered)) return std::nullopt;
  int number = -1;
  const auto* const end = name.data() + name.size();
  const auto [rest, code] = std::from_chars(name.data() + kNumbered.size(), end, number);
  const bool whole = code == std::errc{} && rest == end && number >= 0 && number < 128;
  return whole ? std::optional(number) : std::nullopt;
}

bool names_device(std::string_view name) { return name == "auto" || name == "cpu" || gpu_number(name); }

}  // namespace retort
