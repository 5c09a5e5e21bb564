// Our side of tools/bench/quantize: quantize_bench IN.gguf OUT.gguf MIXTURE THREADS opens a model and writes
// it in a mixture of types; prints the seconds from opening to the finished file (synced to the disk) as
// JSON.
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>

#include "base/error.h"
#include "export/artefacts.h"
#include "ops/memory.h"

int main(int count, char** arguments) try {
  using namespace retort;
  if (count != 5) {
    fmt::print(stderr, "usage: quantize_bench IN.gguf OUT.gguf MIXTURE THREADS\n");
    return 2;
  }
  keep_freed_memory();
  const auto mixture = mixture_from_name(arguments[3]);
  if (!mixture) throw RecipeError(fmt::format("no mixture is named '{}'", arguments[3]));
  const auto begin = std::chrono::steady_clock::now();
  auto loaded = load_model({.path = arguments[1], .weights = "keep", .compute = "f32"});
  const std::chrono::duration<double> opened = std::chrono::steady_clock::now() - begin;
  const auto artefact = write_gguf_model(arguments[2], loaded, *mixture, true, std::stoll(arguments[4]));
  const std::chrono::duration<double> all = std::chrono::steady_clock::now() - begin;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto cpu =
      static_cast<double>(usage.ru_utime.tv_sec) + 1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
  fmt::print(
      "{{\"seconds\": {:.3f}, \"open_seconds\": {:.3f}, \"cpu_seconds\": {:.3f}, \"bytes\": {}, \"peak_mb\": "
      "{}}}\n",
      all.count(), opened.count(), cpu, artefact.bytes, usage.ru_maxrss / 1024);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
