// What a package brings beside the program (tools/package): BIN/../share/retort.
#pragma once
#include <filesystem>

namespace retort {

// NAME in the package's share/retort, wherever it was unpacked; it need not be there.
inline std::filesystem::path beside_program(const char* name) {
  std::error_code unknown;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  return program.parent_path().parent_path() / "share/retort" / name;
}

}  // namespace retort
