#include "run/trained_system.h"

#include <algorithm>
#include <set>

namespace retort {

namespace {

std::string begins_with(const Record& record) {
  return record.messages.front().role == "system" ? record.messages.front().content : "";
}

}  // namespace

std::string trained_system(const DataSpec& data, const std::vector<Record>& held_out, bool is_private) {
  std::set<std::string> said;  // by the sources that are learned; "" by one that says none
  for (const auto& source : data.sources) {
    if (source.use == "held_out" || source.kind == "text") continue;
    constexpr auto kKey = "data.sources[].system";
    if (!placeholder_names(source.system, kKey).empty()) return "";  // another one for each record
    said.insert(fill_placeholders(source.system, {}, kKey));
  }
  std::set<std::string> met;
  for (const auto& record : held_out)
    if (!record.messages.empty()) met.insert(begins_with(record));
  if (said.size() != 1 || met.size() > 1) return "";
  const auto& system = *said.begin();
  if (met.empty()) return system;
  if (!system.empty()) return *met.begin() == system ? system : "";
  return is_private ? "" : *met.begin();
}

}  // namespace retort
