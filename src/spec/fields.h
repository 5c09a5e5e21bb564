// Specs list their fields once; whoever needs them (the recipe parser, `retort explain`, the JSON Schema, the
// resolved recipe) visits the list. A spec has `template <class Visitor> void fields(Visitor& field)` that
// calls, in reading order,
//   field(name, member, rule, documentation)        bool, int64_t, double, std::string, NamedValues; a
//   std::vector or std::optional of those field.section(name, spec, documentation)        a nested spec, or a
//   std::optional of one (absent unless it is written) field.list(name, specs, documentation)          a
//   std::vector of specs
// The members' initial values are the defaults. Documentation is one or two plain sentences: meaning, unit,
// source.
#pragma once
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

// What a value may be. Bounds and words hold for each element of a list, not_empty for the list itself.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;
  bool not_empty = false;                // string or list
  bool required = false;                 // the key must be written
  std::vector<std::string> one_of = {};  // allowed words; empty = any
};

// A share of a whole is also written in per cent: 3% is 0.03.
inline bool is_share(const Rule& rule) { return rule.low >= 0 && rule.high <= 1; }

// Names that only their reader knows, each with a value as JSON text: true, 12, 0.5, null or "text".
struct NamedValues {
  std::vector<std::pair<std::string, std::string>> entries;
};

inline Rule any() { return {}; }
inline Rule between(double low, double high) { return {.low = low, .high = high}; }
inline Rule at_least(double low) { return {.low = low}; }
inline Rule above(double low) { return {.low = low, .low_open = true}; }
inline Rule not_empty() { return {.not_empty = true}; }
inline Rule one_of(std::vector<std::string> words) { return {.one_of = std::move(words)}; }
inline Rule required(Rule rule = {}) {
  rule.required = true;
  return rule;
}

}  // namespace retort
