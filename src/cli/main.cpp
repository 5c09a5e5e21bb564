#include <c10/util/Exception.h>
#include <fmt/core.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <system_error>

#include "base/bus_error.h"
#include "base/stop.h"
#include "base/tell.h"
#include "cli/commands.h"
#include "ops/memory.h"

namespace retort {

namespace {

// One line for any error; a recipe's list of problems comes as it is.
Exit report(const Error& error) {
  const std::string_view text = error.what();
  tell(fmt::format("{}{}", text.find('\n') == std::string_view::npos ? "retort: " : "", text));
  return error.code;
}

Exit guarded(const Action& action) {
  try {
    const auto exit = action();
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
      throw Failure(fmt::format("standard output: {}", std::strerror(errno)));
    return exit;
  } catch (const Error& error) {
    std::fflush(stdout);
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(
        Failure("out of memory; lower train.batch.pass_tokens, set train.recompute: true, or use a smaller "
                "model.weights type"));
  } catch (const c10::OutOfMemoryError&) {  // of a GPU
    return report(
        Failure("the GPU's memory is full; set device_memory to less, so that fewer weights stay there, "
                "lower train.batch.pass_tokens or set train.recompute: true"));
  } catch (const std::system_error& error) {  // file systems, threads, standard output
    return report(Failure(printable(error.what())));
  } catch (const std::exception& error) {
    // LibTorch's messages carry a stack trace after the first line.
    const std::string_view text = error.what();
    return report(Failure(
        fmt::format("internal error: {}; please report it", printable(text.substr(0, text.find('\n'))))));
  }
}

// A shell may allow less stack than libraries take for granted (`ulimit -s 64`). The work then happens on a
// thread with as much as is usual, and so do all threads that it starts.
void on_large_stack(const std::function<void()>& work) {
  constexpr size_t kUsual = size_t{8} << 20;
  rlimit limit{};
  if (::getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kUsual) return work();
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kUsual);
  ::pthread_setattr_default_np(&attributes);
  const auto start = [](void* task) -> void* {
    (*static_cast<const std::function<void()>*>(task))();
    return nullptr;
  };
  pthread_t thread{};
  const bool started =
      ::pthread_create(&thread, &attributes, start, const_cast<std::function<void()>*>(&work)) == 0;
  ::pthread_attr_destroy(&attributes);
  if (!started) return work();
  ::pthread_join(thread, nullptr);
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
  keep_outputs_apart();
  keep_freed_memory();
  catch_stop_signals();
  catch_bus_errors();
  auto exit = Exit::machine_failed;
  on_large_stack([&] {
    exit = guarded([&] {
      Action action;
      const auto app = make_program(action);
      if (const auto done = parse_command_line(*app, argc, argv)) return *done;
      return action();
    });
  });
  return static_cast<int>(exit);
}
