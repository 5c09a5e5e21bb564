#include "base/byte_size.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "base/letters.h"

namespace retort {

std::optional<uint64_t> byte_size(std::string_view text) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc{} || value <= 0) return std::nullopt;
  std::string unit(end, text.data() + text.size());
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  unit = lower_case(unit);
  constexpr std::pair<const char*, double> kUnits[] = {{"b", 1},
                                                       {"kib", 1024},
                                                       {"mib", 1024.0 * 1024},
                                                       {"gib", 1024.0 * 1024 * 1024},
                                                       {"kb", 1e3},
                                                       {"mb", 1e6},
                                                       {"gb", 1e9},
                                                       {"tib", 1024.0 * 1024 * 1024 * 1024},
                                                       {"tb", 1e12}};
  for (const auto& [name, factor] : kUnits)
    if (unit == name && value * factor >= 1 && value * factor < 1e18)
      return static_cast<uint64_t>(value * factor);
  return std::nullopt;
}

}  // namespace retort
