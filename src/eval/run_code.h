// Runs programs that a model wrote, in processes that can do nothing but compute.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace retort {

struct CodeLimits {
  int cpu_seconds = 10;
  int seconds = 30;  // by the clock, on a machine that is busy
  uint64_t memory_bytes = uint64_t{1} << 30;
};

struct ProgramRun {
  bool passed = false;
  std::string problem;  // "AssertionError", "took more than 10 s", ...
};

// Each program by python3 (of /usr/bin or the PATH), passed when it ends without an exception. Python reads
// its modules first, those of the standard library that such programs use; then the process gives away files,
// network, other processes and signals (seccomp, as base/confine.h), and only then the program is run. What
// it prints goes nowhere. `threads` at a time (0 = all). Failure where there is no python3, or where it
// cannot be confined.
std::vector<ProgramRun> run_python(const std::vector<std::string>& programs, const CodeLimits& limits,
                                   int64_t threads = 0);

}  // namespace retort
