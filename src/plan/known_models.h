// Shapes of models that are too large to be downloaded before one knows what they need.
#pragma once
#include <optional>
#include <string>

#include "base/json.h"

namespace retort {

// The config.json of a model as it is published, by name: deepseek-v3 (R1 and V3.1 have the same shape) or
// deepseek-v3.2. Fields that no plan reads are left out.
std::optional<Json> known_config(const std::string& name);
// "deepseek-v3, deepseek-v3.2"
std::string known_model_names();

}  // namespace retort
