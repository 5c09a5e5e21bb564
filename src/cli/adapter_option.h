// --adapter PATH or PATH=WEIGHT, given once or more often.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "adapters/load_adapter.h"
#include "cli/commands.h"

namespace retort {

using AdapterOptions = std::shared_ptr<std::vector<std::string>>;

AdapterOptions add_adapter_option(CLI::App& command);

// "runs/a/export/adapter=0.7". A path that is there counts as it stands, whatever is in its name. RecipeError
// where what stands behind the last '=' is no number.
WeightedAdapter weighted_adapter(const std::string& text);
std::vector<WeightedAdapter> weighted_adapters(const std::vector<std::string>& texts);

// Puts them on the model and tells what is to be told.
void load_adapters(LoadedModel& loaded, const AdapterOptions& options);

}  // namespace retort
