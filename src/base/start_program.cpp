#include "base/start_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/stop.h"

namespace retort {
namespace {

constexpr size_t kHeardAtOnce = size_t{1} << 16, kComplaints = 4096;
constexpr int kPatience = 100;  // milliseconds between two looks at the clock and at a stop

void limit(int resource, uint64_t value, uint64_t beyond = 0) {
  const rlimit bound{value, value + beyond};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &bound);
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec: nothing that allocates. `kept`: room for as many numbers as there are files.
[[noreturn]] void become(const char* file, const ProgramStart& start, char* const* arguments,
                         char* const* environment, std::vector<int>& kept, int problem) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGBUS, SIGSEGV}) std::signal(signal, SIG_DFL);
  const auto count = static_cast<int>(kept.size());
  const int nothing = ::open("/dev/null", O_RDWR);
  const int clear = count + 1;  // files from here on are in nobody's way
  for (int i = 0; i < count; ++i)
    kept[static_cast<size_t>(i)] =
        ::fcntl(start.files[static_cast<size_t>(i)] < 0 ? nothing : start.files[static_cast<size_t>(i)],
                F_DUPFD, clear);
  const int told = ::fcntl(problem, F_DUPFD_CLOEXEC, clear);
  for (int i = 0; i < count; ++i) ::dup2(kept[static_cast<size_t>(i)], i);
  ::dup2(told, count), ::fcntl(count, F_SETFD, FD_CLOEXEC);
  ::syscall(SYS_close_range, static_cast<unsigned>(count + 1), ~0u, 0u);
  if (start.folder.empty() || ::chdir(start.folder.c_str()) == 0) {
    limit(RLIMIT_CORE, 0);
    if (!start.writes_files) limit(RLIMIT_FSIZE, 0);
    if (start.cpu_seconds > 0) limit(RLIMIT_CPU, static_cast<uint64_t>(start.cpu_seconds), 1);
    if (start.memory_bytes > 0) limit(RLIMIT_AS, start.memory_bytes);
    ::execve(file, arguments, environment);
  }
  const int found = errno;
  if (::write(count, &found, sizeof found) < 0) ::_exit(126);
  ::_exit(127);
}

}  // namespace

Pipe::Pipe() {
  if (::pipe2(ends_, O_CLOEXEC) != 0)
    throw Failure(std::string("cannot make a pipe: ") + std::strerror(errno));
}
Pipe::~Pipe() { close(0), close(1); }
void Pipe::close(int which) {
  if (ends_[which] >= 0) ::close(ends_[which]);
  ends_[which] = -1;
}

std::string find_program(const std::string& name) {
  const auto runs = [](const std::string& file) {
    return ::access(file.c_str(), X_OK) == 0 && ::access((file + "/.").c_str(), F_OK) != 0;
  };
  if (name.find('/') != std::string::npos) return runs(name) ? name : "";
  const std::string path = std::getenv("PATH") ? std::getenv("PATH") : "";
  for (size_t begin = 0; begin < path.size();) {
    const auto end = std::min(path.find(':', begin), path.size());
    const auto file = path.substr(begin, end - begin) + "/" + name;
    if (end > begin && runs(file)) return file;
    begin = end + 1;
  }
  return "";
}

pid_t start_program(const std::string& file, const ProgramStart& start) {
  static std::once_flag once;
  std::call_once(once, [] { std::signal(SIGPIPE, SIG_IGN); });  // a program that dies is no reason to die
  const auto arguments = pointers_to(start.arguments);
  const auto own = start.environment ? pointers_to(*start.environment) : std::vector<char*>();
  std::vector<int> kept(start.files.size());
  Pipe problem;
  const pid_t process = ::fork();
  if (process < 0)
    throw Failure(fmt::format("cannot start a process for {}: {}", printable(file), std::strerror(errno)));
  if (process == 0)
    become(file.c_str(), start, arguments.data(), start.environment ? own.data() : ::environ, kept,
           problem.end(1));
  problem.close(1);
  int found = 0;
  ssize_t got = 0;
  while ((got = ::read(problem.end(0), &found, sizeof found)) < 0 && errno == EINTR) {}
  if (got != sizeof found) return process;  // the pipe was closed: the program runs
  while (::waitpid(process, nullptr, 0) < 0 && errno == EINTR) {}
  throw Failure(fmt::format("cannot start {}: {}", printable(file), std::strerror(found)));
}

StartedProgram::StartedProgram(const std::string& file, const std::vector<std::string>& arguments,
                               int input_file, std::string input)
    : text_(std::move(input)) {
  process_ = start_program(
      file, {arguments, {input_file >= 0 ? input_file : input_.end(0), output_.end(1), error_.end(1)}});
  input_.close(0), output_.close(1), error_.close(1);
  if (input_file >= 0 || text_.empty()) input_.close(1);
  else ::fcntl(input_.end(1), F_SETFL, O_NONBLOCK);
  ::fcntl(output_.end(0), F_SETFL, O_NONBLOCK), ::fcntl(error_.end(0), F_SETFL, O_NONBLOCK);
}

StartedProgram::~StartedProgram() {
  if (process_ < 0) return;
  ::kill(-process_, SIGKILL);
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {}
}

void StartedProgram::give() {
  const auto wrote =
      ::write(input_.end(1), text_.data() + given_, std::min(text_.size() - given_, size_t{1} << 16));
  if (wrote < 0 && errno != EINTR && errno != EAGAIN) given_ = text_.size();  // it does not listen any more
  if (wrote > 0) given_ += static_cast<size_t>(wrote);
  if (given_ >= text_.size()) input_.close(1);
}

void StartedProgram::listen() {
  char some[kComplaints];
  const auto got = ::read(error_.end(0), some, sizeof some);
  if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) error_.close(0);
  if (got <= 0) return;
  complaints_.append(some, static_cast<size_t>(got));
  if (complaints_.size() > kComplaints) complaints_.erase(0, complaints_.size() - kComplaints);
}

std::string_view StartedProgram::hear(std::optional<std::chrono::steady_clock::time_point> until,
                                      std::string_view doing_what) {
  heard_.clear();
  while (output_.end(0) >= 0) {
    leave_if_stopped(doing_what);
    if (until && std::chrono::steady_clock::now() >= *until) return {};
    pollfd files[] = {// -1 is passed over
                      {output_.end(0), POLLIN, 0},
                      {input_.end(1), POLLOUT, 0},
                      {error_.end(0), POLLIN, 0}};
    if (::poll(files, 3, kPatience) < 0 && errno != EINTR)
      throw Failure(fmt::format("cannot wait for a program: {}", std::strerror(errno)));
    if (files[1].revents != 0) give();
    if (files[2].revents != 0) listen();
    if (files[0].revents == 0) continue;
    heard_.resize(kHeardAtOnce);
    const auto got = ::read(output_.end(0), heard_.data(), heard_.size());
    heard_.resize(got > 0 ? static_cast<size_t>(got) : 0);
    if (got > 0) return heard_;
    if (got == 0 || (errno != EINTR && errno != EAGAIN)) output_.close(0);
  }
  return {};
}

std::optional<int> StartedProgram::ended(std::optional<std::chrono::steady_clock::time_point> until,
                                         std::string_view doing_what) {
  input_.close(1);
  for (;;) {
    int status = 0;
    const auto found = ::waitpid(process_, &status, WNOHANG);
    if (found == process_ || (found < 0 && errno != EINTR)) {
      while (error_.end(0) >= 0) {  // what is left of its last words; another process may hold the pipe open
        const auto before = complaints_;
        listen();
        if (complaints_ == before) break;
      }
      ::kill(-process_, SIGKILL);
      process_ = -1;
      return status;
    }
    leave_if_stopped(doing_what);
    if (until && std::chrono::steady_clock::now() >= *until) return std::nullopt;
    pollfd file{error_.end(0), POLLIN, 0};
    if (::poll(&file, 1, error_.end(0) >= 0 ? kPatience : 1) > 0) listen();
    if (error_.end(0) < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string StartedProgram::last_complaint() const {
  std::string_view text = complaints_;
  const auto end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return "";
  text = text.substr(0, end + 1);
  const auto begin = text.rfind('\n');
  return printable(begin == std::string_view::npos ? text : text.substr(begin + 1));
}

}  // namespace retort
