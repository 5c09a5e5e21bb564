// The system message that a model was trained with, for files that have a place for it.
#pragma once
#include <string>
#include <vector>

#include "data/record.h"

namespace retort {

// The one that every learned conversation begins with; "" where there is none or several. The recipe says it,
// or else the held-out records, which are of the same kind as those that were learned; with `is_private`
// nothing is taken out of a record.
std::string trained_system(const DataSpec& data, const std::vector<Record>& held_out, bool is_private);

}  // namespace retort
