// What strace wrote about a program: which files it opened, which sockets it made, what it started.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

struct CallTrace {
  std::vector<std::string> programs;  // each that was started, in that order; the first is the traced one
  std::set<std::string> sockets;      // families other than AF_UNIX
  // Files that were opened, by the program itself and by those that it started. Folders are left out.
  std::set<std::string> read, written, read_by_others, written_by_others;
};

// The options of strace whose output parse_trace() reads.
const std::vector<std::string>& strace_options();

CallTrace parse_trace(std::string_view text);

// Whether a file is one of the machine's and of every program on it: of the kernel, the distribution, the C
// library, or a shared library by its name.
bool is_of_the_system(const std::string& path);
// FOLDER itself, and what lies in it at any depth. It has no '/' at its end.
bool is_inside(const std::string& path, const std::string& folder);
// PLACE, a file or a folder, what lies in it, and what is written to take its place (base/unfinished_file.h).
bool is_of_cache(const std::string& path, const std::string& place);

}  // namespace retort
