// Small seeded damage to a text or a file, for tests that read it in full or see it refused.
#pragma once
#include <string>
#include <string_view>

#include "base/random.h"

namespace retort {

// One to three edits of `data`, drawn from (purpose, index): a bit, a telling byte, a cut, a copy, or the end
// left out.
inline std::string damaged(std::string data, std::string_view purpose, uint64_t index,
                           std::string_view telling) {
  const Draws draws(20261, purpose, index);
  for (uint64_t edit = 0; edit <= draws.below(0, 3) && !data.empty(); ++edit) {
    const auto at = draws.below(4 * edit + 1, data.size());
    const auto value = draws.bits(4 * edit + 2);
    switch (draws.below(4 * edit + 3, 5)) {
      case 0: data[at] = static_cast<char>(data[at] ^ (1 << (value % 8))); break;
      case 1: data.erase(at, 1 + value % 12); break;
      case 2: data.insert(at, data.substr(at, 1 + value % 12)); break;
      case 3: data[at] = telling[value % telling.size()]; break;
      default: data.resize(at);
    }
  }
  return data;
}

}  // namespace retort
