// How complete the bill of a model is, counted as OWASP's AIBOM generator counts it, and which key of the
// recipe fills what is empty. github.com/GenAI-Security-Project/aibom-generator at commit c5a3f2f: fields,
// categories and tiers are those of src/models/field_registry.json, the points those of
// src/models/scoring.py. One field of theirs is looked for here where CycloneDX has it: external_references,
// for which their path leads to no place of a document.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/page.h"

namespace retort {

struct BomGap {
  std::string field;  // as OWASP calls it
  std::string key;    // of the recipe; "" where none fills it
  std::string what;   // what belongs there
};

struct BomCompleteness {
  double points = 0;  // of 100
  int64_t filled = 0, counted = 0;
  std::vector<BomGap> gaps;
};

// Numbers of the network's shape that a file does not tell are not counted.
BomCompleteness completeness_of(const Json& bom);

struct CountedBill {
  std::string file;  // in the run's folder
  BomCompleteness completeness;
};
// Of every bill beside the exports of a run.
std::vector<CountedBill> counted_bills(const std::filesystem::path& run);
// Bills with their points, then each empty field with what fills it.
Table bills_table(const std::string& title, const std::vector<CountedBill>& bills);
// "3 (bom.cdx.json), 71.3 to 80.1 of 100 points for completeness; the dossier says how to fill 9 empty
// fields"
std::string bills_line(const std::vector<CountedBill>& bills);

}  // namespace retort
