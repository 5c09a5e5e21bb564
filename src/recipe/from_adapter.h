// adapter.from: what the recipe leaves out is taken from the adapter that it starts from.
#pragma once
#include <vector>

#include "adapters/adapter_spec.h"
#include "spec/yaml.h"

namespace retort {

// Sets kind, rank, alpha, dropout, targets, modules_to_save and trainable_tokens where `root` does not write
// them. A problem for each that is written otherwise than the adapter has it, but dropout, which is the
// training's own; which layers the targets name is compared where the model is known (start_adapter).
void take_from_adapter(AdapterSpec& spec, const YamlNode& root, std::vector<Problem>& problems);

}  // namespace retort
