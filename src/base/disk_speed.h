// What a disk gives.
#pragma once
#include <cstdint>
#include <filesystem>

namespace retort {

// Bytes a second of the first 256 MiB of a file, read past the page cache; 0 where the file is smaller than
// `least`, or its file system allows no such reading.
double disk_speed(const std::filesystem::path& file, uint64_t least = uint64_t{256} << 20);
// The same of the first such file among the weights of a model: a folder, or a file.
double disk_speed_of_model(const std::filesystem::path& path, uint64_t least = uint64_t{256} << 20);

}  // namespace retort
