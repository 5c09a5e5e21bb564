#include <fmt/core.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>

#include "base/bus_error.h"
#include "base/stop.h"
#include "cli/commands.h"
#include "ops/memory.h"

namespace retort {

namespace {

// One line for any error; a recipe's list of problems comes as it is.
Exit report(const Error& error) {
  const std::string_view text = error.what();
  fmt::print(stderr, "{}{}\n", text.find('\n') == std::string_view::npos ? "retort: " : "", text);
  return error.code;
}

Exit guarded(const Action& action) {
  try {
    const auto exit = action();
    if (std::fflush(stdout) != 0) throw Failure(fmt::format("standard output: {}", std::strerror(errno)));
    return exit;
  } catch (const Error& error) {
    std::fflush(stdout);
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(
        Failure("out of memory; lower train.batch.row_tokens, set train.recompute: true, or use a smaller "
                "model.weights type"));
  } catch (const std::system_error& error) {  // file systems, threads, standard output
    return report(Failure(printable(error.what())));
  } catch (const std::exception& error) {
    // LibTorch's messages carry a stack trace after the first line.
    const std::string_view text = error.what();
    return report(Failure(
        fmt::format("internal error: {}; please report it", printable(text.substr(0, text.find('\n'))))));
  }
}

}  // namespace

}  // namespace retort

// libgomp's idle threads spin for milliseconds after each parallel loop, which starves whatever else runs on
// the machine. It asks the environment once, while it is loaded and before main(), so that only the answer
// can be changed. What the user set counts.
extern "C" char* getenv(const char* name) noexcept {
  const auto length = std::strlen(name);
  for (char** entry = environ; entry && *entry; ++entry)
    if (std::strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
  static char passive[] = "passive";
  return std::strcmp(name, "OMP_WAIT_POLICY") == 0 ? passive : nullptr;
}

int main(int argc, char** argv) {
  using namespace retort;
  ::umask(::umask(0) | 077);  // samples and weights are nobody else's business
  keep_freed_memory();
  catch_stop_signals();
  catch_bus_errors();
  return static_cast<int>(guarded([&] {
    Action action;
    const auto app = make_program(action);
    if (const auto exit = parse_command_line(*app, argc, argv)) return *exit;
    return action();
  }));
}
