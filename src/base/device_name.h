// What a recipe's or a command's `device` may be.
#pragma once
#include <optional>
#include <string_view>

namespace retort {

inline constexpr auto kDevices = "auto, cpu, cuda or cuda:N";

// N of cuda:N, 0 of cuda, nothing of any other word.
std::optional<int> gpu_number(std::string_view name);
bool names_device(std::string_view name);

}  // namespace retort
