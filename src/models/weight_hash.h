// The hash of a model's weight files: LoadedModel::sha256.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/later.h"
#include "base/peers.h"
#include "models/model.h"

namespace retort {

struct WeightFile;  // formats/weight_file.h

// One for one or many files: the file's own, or that of the lines "hash  name".
Later<std::string> hash_of(const WeightFile& file);

// The same of ranks that divide the model's layers: each reads the files that hold something of its layers,
// or of none. RecipeError at rank 0 where a rank's file is another one, which it names. All ranks call it
// together; nothing at the others where rank 0 has thrown something.
std::optional<std::string> hash_by_ranks(Peers& peers, const LoadedModel& loaded,
                                         const std::vector<Share>& layers_of_ranks);

}  // namespace retort
