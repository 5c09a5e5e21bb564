#include <fmt/core.h>
#include <malloc.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>

#include "base/stop.h"
#include "cli/commands.h"

namespace retort {

namespace {

// Freed tensors are kept for the next step instead of going back to the kernel: page faults cost a third of a training step.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
}

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
    return report(Failure("out of memory; lower train.batch.row_tokens, set train.recompute: true, or use a smaller model.weights type"));
  } catch (const std::system_error& error) {   // file systems, threads, standard output
    return report(Failure(printable(error.what())));
  } catch (const std::exception& error) {
    // LibTorch's messages carry a stack trace after the first line.
    const std::string_view text = error.what();
    return report(Failure(fmt::format("internal error: {}; please report it", printable(text.substr(0, text.find('\n'))))));
  }
}

}  // namespace

}  // namespace retort

int main(int argc, char** argv) {
  using namespace retort;
  keep_freed_memory();
  catch_stop_signals();
  return static_cast<int>(guarded([&] {
    Action action;
    const auto app = make_app(action);
    if (const auto exit = parse_command_line(*app, argc, argv)) return *exit;
    return action();
  }));
}
