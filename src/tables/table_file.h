// The rows of a Parquet or Arrow file as lines of JSON.
#pragma once
#include <functional>
#include <string_view>

namespace retort {

// Parquet, Arrow's file format (Feather 2), or Arrow's stream format (what `datasets` saves); which of them,
// the first bytes say. One object a row, in the file's order of rows and columns; `take` gets some whole
// lines at a time. FormatError for a damaged file, one that is cut, columns whose type is no text, number,
// date, list or struct, a row of more than 16 MiB, and a small file that stands for an endless text.
void read_table(std::string_view content, std::string_view file,
                const std::function<void(std::string_view lines)>& take);

}  // namespace retort
