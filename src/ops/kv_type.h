// How a cache of keys and values holds its numbers.
#pragma once
#include <string>

namespace retort {

enum class KvType { as_computed, f32, bf16, int8 };
KvType kv_type(const std::string& name);  // "auto", "f32", "bf16", "int8"

inline constexpr const char* kKvDocumentation =
    "how keys and values of earlier tokens are kept: auto = as they are computed, f32, bf16, int8 = 8 bits "
    "with a scale for each head of a token";

}  // namespace retort
