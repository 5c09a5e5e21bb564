// What this program is made of, as whoever packed or built it wrote it down (tools/package).
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace retort {

struct ProgramBom {
  std::filesystem::path file;
  std::string text;                      // as it stands there: CycloneDX
  std::vector<std::string> differences;  // from the files here and the libraries that this process has loaded
};

// RecipeError where there is none, FormatError for what is no such bill.
ProgramBom read_program_bom();

}  // namespace retort
