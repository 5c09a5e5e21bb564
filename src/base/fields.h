// Specs list their fields once; whoever needs them (the recipe parser, `retort explain`, the JSON Schema, the manifest)
// visits the list. A visitor is called as
//   field(name, member, rule, documentation)
// for a scalar, a list of scalars, an optional of one, or an enum with a names() table, and as
//   section(name, spec, documentation)
// for a nested spec (or optional or vector of specs) that has fields() of its own. Visitors may be generic lambdas'
// classes; a spec's fields() is a template: template <class Visitor> void fields(Visitor& field) { field("rank", rank, ...); }
// Nested specs are passed through the same call: field.section("lora", lora, "...").
#pragma once
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// What a value may be. Bounds are on numbers; a list's rule holds for each element and `at_least` for its length.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;
  bool not_empty = false;                // string or list
  bool required = false;                 // the key must be written
  std::vector<std::string> one_of;       // allowed words; empty = any
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
