// Parquet and Arrow files, which another program reads: retort-tables, beside this one.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>

#include "base/error.h"
#include "base/start_program.h"
#include "base/system_failure.h"
#include "data/rows.h"

namespace retort {
namespace {

constexpr const char* kProgram = "retort-tables";
constexpr const char* kDoing = "reading samples";

// Beside the program that runs, or in the folder above (tests).
std::string tables_program(std::string_view file) {
  std::error_code unknown;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", unknown).parent_path();
  for (const auto& folder : {own, own.parent_path()})
    if (const auto found = find_program((folder / kProgram).string()); !found.empty()) return found;
  throw Failure(
      fmt::format("{}: Parquet and Arrow files are read by the program {}, which is not in {}; "
                  "build it after tools/setup parquet, or write the file as .jsonl",
                  printable(file), kProgram, printable(own.string())));
}

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) throw_reading(printable(path) + ": cannot be opened", errno);
  }
  ~OpenFile() { ::close(number_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

// The last line that the program said, which is whole: what it takes from the file it has made printable.
std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const auto begin = text.rfind('\n');
  return std::string(begin == std::string_view::npos ? text : text.substr(begin + 1));
}

void require_success(StartedProgram& program, const MappedFile& file) {
  const int status = *program.ended(std::nullopt, kDoing);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  file.require_unchanged();
  const auto said = last_line(program.complaints());
  const auto begins = file.name() + ":";
  const bool ours = said.starts_with(begins) || said.starts_with(printable(file.name()) + ":");
  if (WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(Exit::bad_input) && ours)
    throw FormatError(said);
  if (WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(Exit::machine_failed))
    throw Failure(printable(said));
  corrupt(file.name(), "",
          WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU
              ? "reading it took too long; the file is damaged"
              : "reading it failed in the process that was confined to it; the file is damaged");
}

}  // namespace

void read_table_rows(const MappedFile& file, const TakeTableRow& take) {
  const OpenFile opened(file.name());
  StartedProgram program(tables_program(file.name()), {kProgram, "-", file.name()}, opened.number());
  int64_t rows = 0;
  std::string begun;  // lines, the last of which is not whole
  for (auto heard = program.hear(std::nullopt, kDoing); !heard.empty();
       heard = program.hear(std::nullopt, kDoing)) {
    const auto end = heard.rfind('\n');
    if (end == std::string_view::npos) {
      begun += heard;
      if (begun.size() > 2 * kLongestLine) corrupt(file.name(), "", "holds a row without an end");
      continue;
    }
    begun += heard.substr(0, end + 1);
    const auto held = std::make_shared<const std::string>(std::move(begun));
    begun = heard.substr(end + 1);
    for (size_t at = 0; at < held->size();) {
      const auto close = held->find('\n', at);
      take(std::string_view(*held).substr(at, close - at), fmt::format("{}:{}", file.name(), ++rows), held);
      at = close + 1;
    }
  }
  require_success(program, file);
  if (rows == 0 || !begun.empty()) corrupt(file.name(), "", "holds no rows, or half of one");
}

}  // namespace retort
