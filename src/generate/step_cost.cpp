#include "generate/step_cost.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/disk_speed.h"
#include "ops/workers.h"
#include "schedule/chains.h"

namespace retort {
namespace {

constexpr uint64_t kLeast = uint64_t{1} << 20;  // bytes that tell a speed at all

std::string amount(double bytes) {
  return bytes < 1e9 ? fmt::format("{:.1f} MB", bytes / 1e6) : fmt::format("{:.2f} GB", bytes / 1e9);
}

}  // namespace

int64_t texts_together(const GenerateSpec& how, int64_t texts) {
  return std::min(texts, how.batch * std::min(texts, usable_threads(how.threads)));
}

std::string describe_step(const Writer& writer, int64_t texts, const std::filesystem::path& path) {
  if (!writer.model.stream()) return "";
  const auto together = texts_together(writer.how, texts);
  const auto read = bytes_of_step(writer.model, together);
  const auto speed = disk_speed_of_model(path, kLeast);
  return fmt::format("{} of matrices are read for each token of {} together: {}", amount(read),
                     together == 1 ? std::string("one answer") : fmt::format("up to {} answers", together),
                     speed > 0 ? fmt::format("about {:.2g} s a token from a disk of {:.2f} GB/s (measured)",
                                             read / speed, speed / 1e9)
                               : std::string("the speed of the disk could not be measured"));
}

}  // namespace retort
