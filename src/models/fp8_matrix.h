// A matrix of F8_E4M3 and the tensor of its scales in a folder.
#pragma once
#include "formats/weight_file.h"
#include "models/config.h"
#include "ops/weight.h"

namespace retort {

// Nullptr where the file has none.
const TensorView* find_f8_scales(const WeightFile& file, const TensorView& codes);
// Codes stay where they are in the file; scales, which may lie in another shard and are of any type that
// writers keep them in, are a copy. FormatError where they are missing, of another shape or not finite.
Weight read_scaled_f8(const WeightFile& file, const Fp8Config& config, const TensorView& codes);

}  // namespace retort
