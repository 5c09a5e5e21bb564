// What a recipe has to say of a file so that it is learned from: `retort init` asks nothing that it can see.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/data_spec.h"

namespace retort {

struct SourceLook {
  SourceSpec source;
  // Key of the source that was set, and why: "prompt", "the columns question and answer are a question and
  // its answer". In the order in which a recipe says them; an empty key is about the whole file.
  std::vector<std::pair<std::string, std::string>> reasons;
  std::vector<std::string> unused;  // columns that the source takes nothing from
  int64_t records = 0;              // that are left to learn from
  bool answers = false;             // records have an answer; else they are texts
  bool tools = false;               // some say something that only templates in Jinja write
  double answer_bytes = 0;          // of an answer on average
  int64_t other_groups = 0;         // groups of records that may not be parted by the split
};

// Looks through a file, a folder or a pattern, all of it. FormatError or RecipeError where nothing in it can
// be learned from, with the first record's reason.
SourceLook look_at_source(const std::string& path);

}  // namespace retort
