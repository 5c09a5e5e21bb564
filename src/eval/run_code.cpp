#include "eval/run_code.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <random>

#include "base/confine.h"
#include "base/error.h"
#include "base/start_program.h"
#include "base/stop.h"
#include "ops/workers.h"

namespace retort {
namespace {

// Reads a word, the filter and the program from its file 4, imports, confines itself, runs the program, and
// writes how that went to its file 3: "c" when it is confined, then "p" and the word, or "f", the word and
// the name of the exception. A program that writes there by itself does not know the word; one that is
// written to cheat finds it in its caller's frame, as in every harness that runs tests inside of the
// program's process.
constexpr const char* kBoot = R"PY(
import os, sys
def main():
    data = b""
    while True:
        part = os.read(4, 1 << 20)
        if not part: break
        data += part
    os.close(4)
    word, size = data[:16], int.from_bytes(data[16:20], "little")
    rules, source = data[20:20 + size], data[20 + size:].decode("utf-8", "replace")
    import ctypes
    import abc, array, bisect, builtins, calendar, cmath, collections, collections.abc, contextlib, copy
    import dataclasses, datetime, decimal, enum, fractions, functools, hashlib, heapq, inspect, io, itertools
    import json, math, numbers, operator, queue, random, re, statistics, string, textwrap, time, traceback
    import types, typing, unicodedata
    import encodings.ascii, encodings.idna, encodings.latin_1, encodings.unicode_escape
    hashlib.md5(b"").hexdigest(), "x".encode("ascii"), random.random(), re.compile("a")
    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("rules", ctypes.c_void_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(rules, len(rules))
    program = Program(len(rules) // 8, ctypes.cast(held, ctypes.c_void_p))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:
        os.write(3, b"x")
        os._exit(1)
    for name in list(sys.modules):
        if name.split(".")[0] in ("ctypes", "_ctypes"): del sys.modules[name]
    os.write(3, b"c")
    write, leave = os.write, os._exit
    try:
        exec(compile(source, "program", "exec"), {"__name__": "__main__"})
        write(3, b"p" + word)
    except BaseException as error:
        write(3, b"f" + word + type(error).__name__.encode()[:60])
    leave(0)
main()
)PY";

std::string python() {
  for (const auto* name : {"/usr/bin/python3", "/usr/local/bin/python3", "python3"})
    if (const auto file = find_program(name); !file.empty()) return file;
  throw Failure("eval.tasks.execute: python3 is not installed here; install it, or set execute to false");
}

pid_t start_python(const std::string& interpreter, int verdict, int source, const CodeLimits& limits) {
  return start_program(interpreter, {.arguments = {"python3", "-I", "-S", "-B", "-c", kBoot},
                                     .files = {-1, -1, -1, verdict, source},
                                     .environment = {{"PYTHONHASHSEED=0", "LC_ALL=C.UTF-8"}},
                                     .folder = "/",
                                     .cpu_seconds = limits.cpu_seconds,
                                     .memory_bytes = limits.memory_bytes,
                                     .writes_files = false});
}

// 16 bytes that nobody can guess.
std::string secret() {
  std::random_device source;
  std::string word;
  while (word.size() < 16) word += "0123456789abcdef"[source() % 16];
  return word;
}

std::string input_of(const std::string& word, const std::string& program) {
  const auto filter = confinement_filter();
  const auto size = static_cast<uint32_t>(filter.size());
  std::string input = word;
  for (int i = 0; i < 4; ++i) input += static_cast<char>(size >> (8 * i) & 0xFF);
  input.append(reinterpret_cast<const char*>(filter.data()), filter.size());
  return input + program;
}

struct Heard {
  std::string text;
  bool late = false;
};

// Gives the program and hears the verdict, until the child is done or its time is over.
Heard talk(Pipe& source, int from, const std::string& input, std::chrono::steady_clock::time_point end) {
  Heard heard;
  size_t given = 0;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      heard.late = true;
      return heard;
    }
    pollfd files[] = {{from, POLLIN, 0}, {source.end(1), POLLOUT, 0}};  // -1 is passed over
    if (::poll(files, 2, static_cast<int>(std::min<int64_t>(left.count(), 100))) < 0 && errno != EINTR)
      return heard;
    if (source.end(1) >= 0 && files[1].revents & (POLLOUT | POLLERR)) {
      const auto wrote = ::write(source.end(1), input.data() + given,
                                 std::min<size_t>(input.size() - given, size_t{1} << 16));
      if (wrote < 0 && errno != EINTR && errno != EAGAIN) given = input.size();  // it died
      if (wrote > 0) given += static_cast<size_t>(wrote);
      if (given >= input.size()) source.close(1);
    }
    if (!(files[0].revents & (POLLIN | POLLHUP))) continue;
    char some[128];
    const auto got = ::read(from, some, sizeof some);
    if (got == 0 || (got < 0 && errno != EINTR)) return heard;
    if (got > 0 && heard.text.size() < 256) heard.text.append(some, static_cast<size_t>(got));
  }
}

ProgramRun run_one(const std::string& interpreter, const std::string& program, const CodeLimits& limits) {
  Pipe source, verdict;
  const auto word = secret(), input = input_of(word, program);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(limits.seconds);
  const pid_t child = start_python(interpreter, verdict.end(1), source.end(0), limits);
  source.close(0), verdict.close(1);
  ::fcntl(source.end(1), F_SETFL, O_NONBLOCK);
  const auto heard = talk(source, verdict.end(0), input, end);
  ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  const auto late = [](int seconds) {
    return ProgramRun{false, fmt::format("took more than {} s", seconds)};
  };
  if (!heard.text.starts_with('c') && !heard.late)
    throw Failure(
        fmt::format("eval.tasks.execute: {} did not start or cannot be confined here (it needs ctypes and "
                    "seccomp); set execute to false",
                    interpreter));
  const auto said = heard.text.substr(std::min<size_t>(1, heard.text.size()));
  if (said == "p" + word) return {true, ""};
  if (said.starts_with("f" + word)) return {false, printable(said.substr(1 + word.size()))};
  if (heard.late) return late(limits.seconds);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) return late(limits.cpu_seconds);
  return {false, "ended without a result"};
}

}  // namespace

std::vector<ProgramRun> run_python(const std::vector<std::string>& programs, const CodeLimits& limits,
                                   int64_t threads) {
  std::vector<ProgramRun> runs(programs.size());
  if (programs.empty()) return runs;
  const auto interpreter = python();
  run_workers(usable_threads(threads), static_cast<int64_t>(programs.size()), [&](int64_t i) {
    leave_if_stopped("running code");
    runs[static_cast<size_t>(i)] = run_one(interpreter, programs[static_cast<size_t>(i)], limits);
  });
  return runs;
}

}  // namespace retort
