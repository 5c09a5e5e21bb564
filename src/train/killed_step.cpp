#include "train/killed_step.h"

#include <fmt/format.h>

#include "base/hash.h"
#include "models/layer_stream.h"
#include "train/state_bytes.h"

namespace retort {

std::unique_ptr<WalkRecord> record_of_step(const TrainJob& job, const RunState& state,
                                           const std::vector<int64_t>& chosen,
                                           const std::vector<NamedTensor>& leaves) {
  const auto* stream = job.model.stream();
  if (!stream || stream->budget().scratch.empty() || state.forests > 0) return nullptr;
  WalkName name;
  name.step = state.result.steps + 1;
  name.training = std::filesystem::absolute(job.folder).lexically_normal().string();
  for (const auto& [key, value] : state.fingerprint) name.training += fmt::format("\n{}={}", key, value);
  Sha256 hash;
  hash.add(batches_after("", job.samples, chosen));
  for (const auto& [leaf, tensor, place] : leaves)
    hash.add({static_cast<const std::byte*>(tensor->const_data_ptr()), tensor->nbytes()});
  name.content = hash.hex();
  return std::make_unique<WalkRecord>(stream->budget().scratch, name);
}

}  // namespace retort
