// What a token of an answer costs a model whose layers are in its file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "generate/generate.h"

namespace retort {

// How many of so many texts grow together: those of all threads.
int64_t texts_together(const GenerateSpec& how, int64_t texts);

// One line: the bytes that a token of each of these texts reads, and the seconds that its disk, which is
// measured on the files at `path`, needs for them. Empty where the layers are in memory.
std::string describe_step(const Writer& writer, int64_t texts, const std::filesystem::path& path);

}  // namespace retort
