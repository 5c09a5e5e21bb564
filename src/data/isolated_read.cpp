#include "data/isolated_read.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/confine.h"
#include "base/error.h"

namespace retort {
namespace {

enum class PipeMessage : uint8_t { data = 'd', error = 'e', isolation = 'i', done = 'z' };

bool write_all(int pipe, const void* data, size_t size) {
  for (auto at = static_cast<const char*>(data); size > 0;) {
    const auto wrote = ::write(pipe, at, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    at += wrote, size -= static_cast<size_t>(wrote);
  }
  return true;
}

bool read_all(int pipe, void* data, size_t size) {
  for (auto at = static_cast<char*>(data); size > 0;) {
    const auto got = ::read(pipe, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got, size -= static_cast<size_t>(got);
  }
  return true;
}

bool send_message(int pipe, PipeMessage part, std::span<const std::byte> payload) {
  const uint64_t size = payload.size();
  return write_all(pipe, &part, 1) && write_all(pipe, &size, 8) &&
         write_all(pipe, payload.data(), payload.size());
}
bool send_text(int pipe, PipeMessage part, std::string_view text) {
  return send_message(pipe, part, std::as_bytes(std::span(text.data(), text.size())));
}

[[noreturn]] void child(int pipe, uint64_t memory_bytes, int cpu_seconds,
                        const std::function<void(const SendBytes&)>& read) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGBUS, SIGSEGV}) std::signal(signal, SIG_DFL);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (const int problem = confine(pipe, memory_bytes, cpu_seconds); problem != 0) {
    send_text(3, PipeMessage::isolation, std::strerror(problem));
    ::_exit(1);
  }
  try {
    read([](std::span<const std::byte> bytes) {
      if (!send_message(3, PipeMessage::data, bytes)) ::_exit(1);
    });
    send_message(3, PipeMessage::done, {});
  } catch (const std::exception& error) { send_text(3, PipeMessage::error, error.what()); }
  ::_exit(0);
}

}  // namespace

std::vector<std::byte> read_isolated(std::string_view file, uint64_t memory_bytes, uint64_t answer_bytes,
                                     int cpu_seconds,
                                     const std::function<void(const SendBytes& send)>& read) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw Failure(std::string("cannot make a pipe: ") + std::strerror(errno));
  const pid_t process = ::fork();
  if (process < 0) {
    ::close(ends[0]), ::close(ends[1]);
    throw Failure(std::string("cannot start a process to read files in: ") + std::strerror(errno));
  }
  if (process == 0) child(ends[1], memory_bytes, cpu_seconds, read);
  ::close(ends[1]);

  std::vector<std::byte> answer;
  std::string error;
  PipeMessage part = PipeMessage::data;
  uint64_t size = 0;
  bool finished = false, too_much = false;
  while (!finished && read_all(ends[0], &part, 1) && read_all(ends[0], &size, 8)) {
    if (part == PipeMessage::done) {
      finished = true;
    } else if (part != PipeMessage::data) {
      error.resize(std::min<uint64_t>(size, 4096));
      if (!read_all(ends[0], error.data(), error.size())) error.clear();
      break;
    } else if (size > answer_bytes - answer.size()) {
      too_much = true;
      break;
    } else {
      // Grows with what really arrives, so that a lying size allocates nothing.
      for (uint64_t left = size; left > 0;) {
        const auto step = std::min<uint64_t>(left, size_t{1} << 20);
        answer.resize(answer.size() + step);
        if (!read_all(ends[0], answer.data() + answer.size() - step, step)) {
          size = 0;
          break;
        }
        left -= step;
      }
    }
  }
  ::close(ends[0]);
  if (!finished) ::kill(process, SIGKILL);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {}
  if (finished) return answer;
  if (part == PipeMessage::isolation)
    throw Failure(fmt::format("{}: the process that reads it cannot be confined (seccomp: {})",
                              printable(file), error));
  if (!error.empty()) throw FormatError(error);
  if (too_much) corrupt(file, "", "holds more than " + bytes(answer_bytes));
  corrupt(file, "",
          WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU
              ? "reading it took too long; the file is damaged"
              : "reading it failed in the process that was confined to it; the file is damaged");
}

}  // namespace retort
