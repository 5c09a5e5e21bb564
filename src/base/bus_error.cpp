#include "base/bus_error.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "base/error.h"

namespace retort {

// Ranges form a list that only grows; a removed one is empty and used again. So the handler can walk it at
// any instant.
struct MappedRange {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<int> descriptor{-1};
  char name[512] = {};  // safe to print; the handler cannot allocate
  MappedRange* next = nullptr;
};

namespace {

std::atomic<MappedRange*> ranges{nullptr};
std::mutex adding;

void say(const char* text) {
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;  // nothing left to tell
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const auto* range = ranges.load(); range; range = range->next) {
    const auto* begin = range->begin.load();
    if (!begin || address < begin || address >= begin + range->size.load()) continue;
    // A page of a file that is as long as it was is one that the disk, or the server, does not give.
    struct stat now {};
    const bool whole = ::fstat(range->descriptor.load(), &now) == 0 &&
                       static_cast<size_t>(now.st_size) >= range->size.load();
    say("retort: ");
    say(range->name);
    say(whole
            ? ": a part of it cannot be read (an error of the disk or of the network); look at the system's "
              "log and start again\n"
            : ": became shorter while it was being read; start again when nothing writes to it\n");
    ::_exit(static_cast<int>(whole ? Exit::machine_failed : Exit::bad_input));
  }
  ::signal(SIGBUS, SIG_DFL);  // not ours: returning repeats the access, which now ends the process as usual
}

}  // namespace

void catch_bus_errors() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

MappedRange* add_mapped_range(const std::byte* begin, size_t size, std::string_view name, int descriptor) {
  const auto shown = name.size() < sizeof(MappedRange::name)
                         ? name
                         : name.substr(name.size() - sizeof(MappedRange::name) + 1);
  std::lock_guard lock(adding);
  auto* range = ranges.load();
  while (range && range->begin.load()) range = range->next;
  const bool fresh = !range;
  if (fresh) range = new MappedRange;  // stays in the list until the process ends
  *std::transform(shown.begin(), shown.end(), range->name,
                  [](char c) { return static_cast<unsigned char>(c) < 0x20 ? '?' : c; }) = '\0';
  range->size = size;
  range->descriptor = descriptor;
  range->begin = begin;
  if (fresh) {
    range->next = ranges.load();
    ranges = range;
  }
  return range;
}

void remove_mapped_range(MappedRange* range) { range->begin = nullptr; }

}  // namespace retort
