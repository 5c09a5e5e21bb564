// Runs the built program from outside.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "where.h"  // tests

namespace retort {

struct Result {
  int exit = -1;
  std::string out, err;
};

// Runs `PROGRAM [COMMAND] ARGUMENTS` in the source folder, behind another program where one is named (strace,
// unshare).
inline Result run_program(const std::string& program, const std::string& arguments,
                          const std::string& behind = "", const std::string& name = "") {
  const auto errors = std::filesystem::temp_directory_path() / fmt::format("retort_cli_{}.err", getpid());
  const auto command = fmt::format("cd '{}' && {} '{}/{}' {} {} 2>'{}'", source_dir(), behind, binary_dir(),
                                   program, name, arguments, errors.string());
  Result result;
  auto* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.out.append(buffer, count);
  const int status = pclose(pipe);
  result.exit = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.err = read_text(errors);
  std::filesystem::remove(errors);
  return result;
}

inline Result retort(const std::string& arguments, const std::string& behind = "",
                     const std::string& name = "") {
  return run_program("retort", arguments, behind, name);
}

class Folder {
 public:
  Folder() : path(std::filesystem::temp_directory_path() / fmt::format("retort_cli_{}", getpid())) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
  std::filesystem::path path;
};

inline void expect_one_line(const Result& result, int exit, const std::string& line) {
  EXPECT_EQ(result.exit, exit);
  EXPECT_EQ(result.err, line + "\n");
}

}  // namespace retort
