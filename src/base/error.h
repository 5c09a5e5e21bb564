// The three kinds of error a user can meet. Each is one clear line: place, found, expected, what to do.
// Our own mistakes are asserts, not exceptions.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// What the process returns. 75 is EX_TEMPFAIL: stopped by a signal with everything saved, requeue me.
enum class Exit : int { done = 0, gate_failed = 1, bad_input = 2, machine_failed = 3, stopped = 75 };

struct Error : std::runtime_error {
  Error(Exit exit, const std::string& message) : std::runtime_error(message), code(exit) {}
  Exit code;
};

// The recipe or the command line is wrong.
struct RecipeError : Error {
  explicit RecipeError(const std::string& message) : Error(Exit::bad_input, message) {}
};

// A file from outside is wrong.
struct FormatError : Error {
  explicit FormatError(const std::string& message) : Error(Exit::bad_input, message) {}
};

// The machine failed: disk full, out of memory, a system call refused.
struct Failure : Error {
  explicit Failure(const std::string& message) : Error(Exit::machine_failed, message) {}
};

// Stopped by SIGINT or SIGTERM after everything was saved.
struct Stopped : Error {
  explicit Stopped(const std::string& message) : Error(Exit::stopped, message) {}
};

// "FILE: OBJECT: PROBLEM". The object's name comes from the file, so it is escaped and cut.
[[noreturn]] void corrupt(std::string_view file, std::string_view object, std::string_view problem);

// A name from outside, made safe to print: control bytes and invalid UTF-8 escaped, cut to 120 bytes.
std::string printable(std::string_view text);

// "1536 bytes (1.5 KiB)"
std::string bytes(uint64_t count);

// The candidate nearest to `word` (at most a third of its letters changed, added, dropped or swapped
// with a neighbour), or "".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace retort
