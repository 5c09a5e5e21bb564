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
Weight read_scaled_f8(const Fp8Config& config, const TensorView& codes, const TensorView& scales);

// Where a tensor has the matrices of all experts of a layer: one matrix's place in it, of gate_up_proj a half
// of the expert's.
struct PlaceInStack {
  int64_t expert = 0, experts = 1;
  int64_t part = 0, parts = 1;
};
// The scales of that matrix among those of the whole tensor, which has them in blocks, for each row, one for
// each part or expert, or one for all. FormatError where two parts share a block.
TensorView scales_in_stack(const Fp8Config& config, const TensorView& codes, const TensorView& scales,
                           const PlaceInStack& place);

}  // namespace retort
