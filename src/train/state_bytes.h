// What of a training is saved or hashed, as bytes.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "forest/samples.h"
#include "models/model.h"
#include "train/checkpoint.h"

namespace retort {

// An fp32 tensor under a name: saved from, or loaded into.
NamedBytes bytes_of(const std::string& name, Tensor& tensor);
// Trainables as a checkpoint's weights.safetensors holds them, in its order.
std::vector<NamedBytes> bytes_of(const std::vector<NamedTensor>& trainables);

// The SHA-256 of CHECKPOINT/weights.safetensors, as the manifest beside it gives it.
std::string weights_hash(const std::filesystem::path& checkpoint);

// RunState::batches after a step that took the samples `chosen`, when it was `before` until then.
std::string batches_after(const std::string& before, const Samples& samples,
                          const std::vector<int64_t>& chosen);

}  // namespace retort
