// Starts other programs; nothing else of the project does. What they may do is said by whoever starts them.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

class Pipe {
 public:
  Pipe();  // closed in every program that is started
  ~Pipe();
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int end(int which) const { return ends_[which]; }  // 0 is read from, 1 is written to
  void close(int which);

 private:
  int ends_[2];
};

struct ProgramStart {
  std::vector<std::string> arguments;                        // the program's name first
  std::vector<int> files;                                    // what become its files 0, 1, ...; -1: /dev/null
  std::optional<std::vector<std::string>> environment = {};  // nullopt: this process's own
  std::string folder = {};                                   // it runs in; empty: this process's own
  int cpu_seconds = 0;                                       // 0: no limit
  uint64_t memory_bytes = 0;                                 // 0: no limit
  bool writes_files = true;
};

// The file that a shell would run for this name; "" when there is none.
std::string find_program(const std::string& name);

// The program leads a process group of its own and ends with the thread that started it. Failure when it
// cannot be started.
pid_t start_program(const std::string& file, const ProgramStart& start);

// A program that reads its standard input and writes to its standard output. It ends with this object at the
// latest, and so do the programs that it started.
class StartedProgram {
 public:
  // `input_file`: its standard input; -1: the text `input`.
  StartedProgram(const std::string& file, const std::vector<std::string>& arguments, int input_file,
                 std::string input = {});
  ~StartedProgram();
  StartedProgram(const StartedProgram&) = delete;
  StartedProgram& operator=(const StartedProgram&) = delete;

  // What it writes next; empty when it has closed its output, or at `until`. `doing_what`: for a stop.
  std::string_view hear(std::optional<std::chrono::steady_clock::time_point> until,
                        std::string_view doing_what);
  // Waits for its end, until `until`. nullopt: it is still there.
  std::optional<int> ended(std::optional<std::chrono::steady_clock::time_point> until,
                           std::string_view doing_what);         // as waitpid() says it
  const std::string& complaints() const { return complaints_; }  // the last 4 KiB of its standard error
  std::string last_complaint() const;                            // the last line of it, printable

 private:
  void give();
  void listen();
  Pipe input_, output_, error_;
  std::string text_, heard_, complaints_;
  size_t given_ = 0;
  pid_t process_ = -1;
};

}  // namespace retort
