// Parts of a CycloneDX document that several of its components have.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/result.h"
#include "report/manifest.h"

namespace retort {

// A licence by its SPDX identifier where it is one of those that hubs name ("apache-2.0"), else as it stands.
OrderedJson bom_licenses(const std::string& license);
OrderedJson bom_hashes(const std::string& hex);
void add_bom_property(OrderedJson& properties, const std::string& name, const std::string& value);

// Of one file its SHA-256, of several that of the lines which sha256sum prints of them.
std::string bom_hash(const std::vector<FileRecord>& files);
// A single file is the component itself; several are its parts, `ref`/1 and so on.
void add_bom_files(OrderedJson& component, const std::string& ref, const std::vector<FileRecord>& files,
                   OrderedJson& properties);

// As package URLs and references want it: letters, digits and . - _ ~ stay.
std::string percent_encoded(std::string_view text);
// Of "owner/name", as hubs have it; empty for any other name.
std::string hub_purl(const std::string& name);

OrderedJson bom_metric(const std::string& name, const std::string& value, const std::string& slice);
// Every finite score, with its interval of 95 % where it has one.
OrderedJson bom_metrics(const std::vector<TaskResult>& tasks);

}  // namespace retort
