// Which columns of a file a source leaves aside: somebody who reads a recipe must see what is not learned.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/column_look.h"
#include "data/data_spec.h"

namespace retort {

// In the order of the file. `kind`: what the records are by their keys (RecordMaker::kind). Of an object that
// is used in part, the members that are not: "sample.hints". A column that holds nothing is named too.
std::vector<std::string> unused_columns(const SourceSpec& source, std::string_view kind,
                                        const ColumnsLook& look);

}  // namespace retort
