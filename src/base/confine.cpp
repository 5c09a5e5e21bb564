#include "base/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <vector>

namespace retort {
namespace {

// System calls that memory, time and the one open file need; all others fail with EPERM.
constexpr uint32_t kAllowed[] = {
    SYS_read,           SYS_write,         SYS_close,        SYS_mmap,
    SYS_munmap,         SYS_mremap,        SYS_mprotect,     SYS_brk,
    SYS_madvise,        SYS_futex,         SYS_exit,         SYS_exit_group,
    SYS_rt_sigprocmask, SYS_rt_sigaction,  SYS_rt_sigreturn, SYS_sigaltstack,
    SYS_gettimeofday,   SYS_clock_gettime, SYS_time,         SYS_getpid,
    SYS_gettid,         SYS_tgkill,        SYS_sched_yield,  SYS_getrusage,
    SYS_sysinfo,        SYS_lseek,         SYS_fstat,        SYS_setitimer,
};

std::vector<sock_filter> filter_of(bool with_signals) {
  std::vector<sock_filter> filter;
  const auto load = [&](uint32_t offset) { filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); };
  const auto back = [&](uint32_t action) { filter.push_back(BPF_STMT(BPF_RET | BPF_K, action)); };
  load(offsetof(seccomp_data, arch));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  back(SECCOMP_RET_KILL_PROCESS);
  load(offsetof(seccomp_data, nr));
  for (const auto number : kAllowed) {
    if (number == SYS_tgkill && !with_signals) continue;
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    back(SECCOMP_RET_ALLOW);
  }
  back(SECCOMP_RET_ERRNO | EPERM);
  return filter;
}

bool forbid_all_else() {
  auto filter = filter_of(true);
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

}  // namespace

int confine(int file, uint64_t memory_bytes, int cpu_seconds, int input) {
  const int kept = input >= 0 ? ::fcntl(input, F_DUPFD_CLOEXEC, 16) : -1;  // out of the way of both
  if (file != 3) ::dup2(file, 3);
  if (kept >= 0) ::dup2(kept, 4);
  ::syscall(SYS_close_range, kept >= 0 ? 5u : 4u, ~0u, 0u);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  if (cpu_seconds > 0) limit(RLIMIT_CPU, static_cast<uint64_t>(cpu_seconds), 1);
  if (const auto used = address_space_in_use(); used > 0) limit(RLIMIT_AS, used + memory_bytes);
  return forbid_all_else() ? 0 : errno;
}

std::vector<std::byte> confinement_filter() {
  const auto filter = filter_of(false);
  const auto* begin = reinterpret_cast<const std::byte*>(filter.data());
  return {begin, begin + filter.size() * sizeof(sock_filter)};
}

}  // namespace retort
