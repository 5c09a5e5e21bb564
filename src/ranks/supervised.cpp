#include "ranks/supervised.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/stop.h"
#include "base/tell.h"

namespace retort {
namespace {

// This rank's number, as whoever started it says; the MPI library is not open in this process.
std::string rank_by_environment() {
  for (const auto* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const auto* value = std::getenv(name)) return printable(value);
  return "0";
}

}  // namespace

Exit supervised(const std::function<Exit()>& work) {
  std::fflush(stdout);
  const auto parent = ::getpid();
  const auto child = ::fork();
  if (child < 0) throw Failure(fmt::format("this process cannot start another: {}", std::strerror(errno)));
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody else would end it
    if (::getppid() != parent) ::_exit(static_cast<int>(Exit::machine_failed));
    auto exit = Exit::machine_failed;
    try {
      exit = work();
    } catch (const std::exception& error) { tell(fmt::format("retort-ranks: {}", printable(error.what()))); }
    std::exit(static_cast<int>(exit));
  }
  int status = 0;
  // Looks at both in turns: a signal that comes just before a wait would not end it.
  for (bool passed_on = false;;) {
    const auto ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) throw Failure(fmt::format("waitpid: {}", std::strerror(errno)));
    if (!passed_on && stop_requested()) passed_on = ::kill(child, SIGTERM) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (!WIFSIGNALED(status)) return static_cast<Exit>(WEXITSTATUS(status));
  char host[200] = {};
  ::gethostname(host, sizeof host - 1);
  tell(
      fmt::format("retort-ranks: rank {} on {} was ended by signal {} ({}); what is saved is whole, and the "
                  "same command goes on from there",
                  rank_by_environment(), host, WTERMSIG(status), strsignal(WTERMSIG(status))));
  return Exit::machine_failed;
}

}  // namespace retort
