// A size as people write it: "700MiB", "1.5 GiB", "800MB".
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace retort {

// Bytes, at least one; nullopt when the text is no size. Units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB
// (powers of 1000); case counts not.
std::optional<uint64_t> byte_size(std::string_view text);

}  // namespace retort
