#include "export/compared_samples.h"

#include <algorithm>

namespace retort {
namespace {

constexpr size_t kOfAnAdapter = 4, kFewest = 8, kMost = 64;
constexpr int64_t kEnoughTokens = 1024;  // supervised

size_t enough_samples(const Samples& held_out) {
  size_t count = 0;
  for (int64_t tokens = 0; count < std::min(held_out.size(), kMost); ++count) {
    if (count >= kFewest && tokens >= kEnoughTokens) break;
    const auto weights = held_out[count].weights;
    tokens += std::ranges::count_if(weights, [](float weight) { return weight > 0; });
  }
  return count;
}

}  // namespace

size_t samples_to_compare(const ExportSpec& spec, bool whole_model, const Samples& held_out) {
  const auto count = spec.compare_samples > 0
                         ? std::min(held_out.size(), static_cast<size_t>(spec.compare_samples))
                         : enough_samples(held_out);
  return whole_model ? count : std::min(count, kOfAnAdapter);
}

}  // namespace retort
