// Records in somebody else's words: `data.sources[].fields` and `roles`.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/data_spec.h"
#include "data/record.h"

namespace retort {

class Reshape {
 public:
  // RecipeError for what is no field or role here. `where`: "data.sources[0]".
  Reshape(const SourceSpec& source, const std::string& where);
  bool empty() const { return record_.empty() && message_.empty() && roles_.empty(); }
  // The record as JSON in our words, keys in the file's order. FormatError where a field is missing that a
  // record cannot be without, or where ours stands beside the one that is to be read for it.
  std::string record(std::string_view line, std::string_view place) const;
  // Columns of a table under our names.
  Columns columns(Columns columns, std::string_view place) const;

 private:
  using Names = std::vector<std::pair<std::string, std::string>>;  // ours, theirs
  std::string message(std::string_view json, const std::string& where) const;
  std::string messages(std::string_view list, std::string_view place) const;
  Names record_, message_, roles_;
};

}  // namespace retort
