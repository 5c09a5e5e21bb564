#include "base/stop.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/error.h"

namespace retort {
namespace {

std::atomic<int> requests{0}, last_signal{0};

void on_signal(int signal) {
  last_signal = signal;
  if (requests.fetch_add(1) >= 1 && signal == SIGINT) ::_exit(130);
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // nohup asked for its being ignored
}

bool stop_requested() { return requests.load() > 0; }
int stop_signal() { return last_signal.load(); }
void request_stop() { requests.fetch_add(1); }
void forget_stop() {
  requests.store(0);
  last_signal.store(0);
}

void leave_if_stopped(std::string_view doing_what) {
  if (stop_requested())
    throw Stopped(fmt::format("stopped while {}; everything done so far is saved, the same command continues",
                              doing_what));
}

}  // namespace retort
