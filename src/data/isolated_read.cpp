#include "data/isolated_read.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace retort {
namespace {

enum class PipeMessage : uint8_t { data = 'd', error = 'e', isolation = 'i', done = 'z' };

// System calls that memory, time and the pipe need; all others fail with EPERM.
constexpr uint32_t kAllowed[] = {
    SYS_read,           SYS_write,         SYS_close,        SYS_mmap,
    SYS_munmap,         SYS_mremap,        SYS_mprotect,     SYS_brk,
    SYS_madvise,        SYS_futex,         SYS_exit,         SYS_exit_group,
    SYS_rt_sigprocmask, SYS_rt_sigaction,  SYS_rt_sigreturn, SYS_sigaltstack,
    SYS_gettimeofday,   SYS_clock_gettime, SYS_time,         SYS_getpid,
    SYS_gettid,         SYS_tgkill,        SYS_sched_yield,  SYS_getrusage,
    SYS_sysinfo,        SYS_lseek,         SYS_fstat,
};

bool forbid_all_else() {
  std::vector<sock_filter> filter;
  const auto load = [&](uint32_t offset) { filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); };
  const auto back = [&](uint32_t action) { filter.push_back(BPF_STMT(BPF_RET | BPF_K, action)); };
  load(offsetof(seccomp_data, arch));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  back(SECCOMP_RET_KILL_PROCESS);
  load(offsetof(seccomp_data, nr));
  for (const auto number : kAllowed) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    back(SECCOMP_RET_ALLOW);
  }
  back(SECCOMP_RET_ERRNO | EPERM);
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

uint64_t address_space_in_use() {
  uint64_t pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%lu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit(int resource, uint64_t value,
           uint64_t beyond = 0) {  // at the hard limit of time the kernel kills without a reason
  const rlimit bound{value, value + beyond};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &bound);
}

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
  if (pipe != 3) ::dup2(pipe, 3);
  ::syscall(SYS_close_range, 4u, ~0u, 0u);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CPU, static_cast<uint64_t>(cpu_seconds), 1);
  if (const auto used = address_space_in_use(); used > 0) limit(RLIMIT_AS, used + memory_bytes);
  if (!forbid_all_else()) {
    send_text(3, PipeMessage::isolation, std::strerror(errno));
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
