// retort-tables: a Parquet or Arrow file as lines of JSON. retort starts it for sources of these formats, so
// that libarrow, which is large and holds network code of its own, is in no other process; and before this
// one looks at the file it gives away files, network and other processes.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/confine.h"
#include "base/error.h"
#include "base/start_program.h"
#include "tables/table_file.h"

namespace retort {
namespace {

constexpr uint64_t kMemory = uint64_t{4} << 30;
constexpr int kOutput = 3;  // where confine() puts it

std::string_view mapped(int file, const char* name) {
  struct stat found {};
  if (::fstat(file, &found) != 0)
    throw Failure(fmt::format("{}: cannot be read: {}", printable(name), std::strerror(errno)));
  if (!S_ISREG(found.st_mode)) corrupt(name, "", "is not a regular file");
  const auto size = static_cast<size_t>(found.st_size);
  if (size == 0) return {};
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  if (data == MAP_FAILED)
    throw Failure(fmt::format("{}: cannot be mapped: {}", printable(name), std::strerror(errno)));
  return {static_cast<const char*>(data), size};
}

void put(int output, std::string_view lines) {
  while (!lines.empty()) {
    const auto wrote = ::write(output, lines.data(), lines.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw Failure(fmt::format("standard output: {}", std::strerror(errno)));
    lines.remove_prefix(static_cast<size_t>(wrote));
  }
}

// From standard input to standard output, neither of which may be a file that is written to.
int read_confined(const char* name) {
  const auto content = mapped(0, name);
  const int seconds = 120 + static_cast<int>(std::min<size_t>(content.size() >> 20, 1 << 24));
  if (const int problem = confine(1, kMemory, seconds); problem != 0)
    throw Failure(fmt::format("{}: the process that reads it cannot be confined (seccomp: {})",
                              printable(name), std::strerror(problem)));
  read_table(content, name, [](std::string_view lines) { put(kOutput, lines); });
  return 0;
}

// By hand: this program again, as retort starts it, its output to wherever ours goes.
int read_by_child(const char* name) {
  const int file = ::open(name, O_RDONLY | O_CLOEXEC);
  if (file < 0) corrupt(name, "", std::string("cannot be opened: ") + std::strerror(errno));
  StartedProgram child("/proc/self/exe", {"retort-tables", "-", name}, file);
  constexpr const char* kDoing = "reading a table";
  for (auto heard = child.hear(std::nullopt, kDoing); !heard.empty();
       heard = child.hear(std::nullopt, kDoing))
    put(1, heard);
  const int status = *child.ended(std::nullopt, kDoing);
  std::fputs(child.complaints().c_str(), stderr);
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  corrupt(name, "", "reading it failed in the process that was confined to it; the file is damaged");
}

int tables(int count, char** arguments) {
  const bool of_input = count == 3 && std::string_view(arguments[1]) == "-";
  if (of_input) return read_confined(arguments[2]);
  if (count == 2 && arguments[1][0] != '-') return read_by_child(arguments[1]);
  std::fputs(
      "usage: retort-tables FILE > rows.jsonl\n"
      "       retort-tables - NAME < FILE | ...     (NAME: for messages)\n"
      "Writes the rows of a Parquet or Arrow file as lines of JSON.\n",
      stderr);
  return static_cast<int>(Exit::bad_input);
}

}  // namespace
}  // namespace retort

int main(int count, char** arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  const auto end = [](int code, const char* text) {
    std::fprintf(stderr, "%s\n", text);
    return code;
  };
  try {
    return retort::tables(count, arguments);
  } catch (const retort::Error& error) {
    return end(static_cast<int>(error.code), error.what());
  } catch (const std::bad_alloc&) {
    return end(static_cast<int>(retort::Exit::bad_input),
               (std::string(arguments[count - 1]) +
                ": its rows ask for more memory than they may have; is the file damaged?")
                   .c_str());
  } catch (const std::exception& error) {
    return end(static_cast<int>(retort::Exit::machine_failed), error.what());
  }
}
