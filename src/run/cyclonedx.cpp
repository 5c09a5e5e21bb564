#include "run/cyclonedx.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/hash.h"
#include "base/letters.h"

namespace retort {

namespace {

// More are counted and have one hash: a data set may be thousands of files.
constexpr size_t kMostFiles = 100;

// SPDX's identifiers of what hubs call "apache-2.0" and the like.
constexpr std::string_view kSpdx[] = {"AFL-3.0",
                                      "AGPL-3.0",
                                      "AGPL-3.0-only",
                                      "Apache-2.0",
                                      "Artistic-2.0",
                                      "BSD-2-Clause",
                                      "BSD-3-Clause",
                                      "BSD-3-Clause-Clear",
                                      "BSL-1.0",
                                      "CC-BY-2.0",
                                      "CC-BY-2.5",
                                      "CC-BY-3.0",
                                      "CC-BY-4.0",
                                      "CC-BY-NC-2.0",
                                      "CC-BY-NC-3.0",
                                      "CC-BY-NC-4.0",
                                      "CC-BY-NC-ND-3.0",
                                      "CC-BY-NC-ND-4.0",
                                      "CC-BY-NC-SA-2.0",
                                      "CC-BY-NC-SA-3.0",
                                      "CC-BY-NC-SA-4.0",
                                      "CC-BY-ND-4.0",
                                      "CC-BY-SA-3.0",
                                      "CC-BY-SA-4.0",
                                      "CC0-1.0",
                                      "CDLA-Permissive-1.0",
                                      "CDLA-Permissive-2.0",
                                      "CDLA-Sharing-1.0",
                                      "ECL-2.0",
                                      "EPL-1.0",
                                      "EPL-2.0",
                                      "EUPL-1.1",
                                      "EUPL-1.2",
                                      "GPL-2.0",
                                      "GPL-3.0",
                                      "ISC",
                                      "LGPL-2.1",
                                      "LGPL-3.0",
                                      "MIT",
                                      "MPL-2.0",
                                      "MS-PL",
                                      "ODC-By-1.0",
                                      "OFL-1.1",
                                      "OSL-3.0",
                                      "PDDL-1.0",
                                      "Unlicense",
                                      "WTFPL",
                                      "Zlib"};

}  // namespace

OrderedJson bom_licenses(const std::string& license) {
  const auto known = std::find_if(std::begin(kSpdx), std::end(kSpdx),
                                  [&](std::string_view spdx) { return equal_letters(spdx, license); });
  OrderedJson stated = OrderedJson::object();
  if (known != std::end(kSpdx)) stated["id"] = std::string(*known);
  else stated["name"] = license;
  stated["acknowledgement"] = "declared";
  OrderedJson choice = OrderedJson::object();
  choice["license"] = std::move(stated);
  auto list = OrderedJson::array();
  list.push_back(std::move(choice));
  return list;
}

OrderedJson bom_hashes(const std::string& hex) {
  OrderedJson hash = OrderedJson::object();
  hash["alg"] = "SHA-256";
  hash["content"] = hex;
  auto list = OrderedJson::array();
  list.push_back(std::move(hash));
  return list;
}

void add_bom_property(OrderedJson& properties, const std::string& name, const std::string& value) {
  OrderedJson property = OrderedJson::object();
  property["name"] = name;
  property["value"] = value;
  properties.push_back(std::move(property));
}

std::string bom_hash(const std::vector<FileRecord>& files) {
  if (files.size() == 1) return files.front().sha256;
  std::string lines;
  for (const auto& file : files) lines += fmt::format("{}  {}\n", file.sha256, file.path);
  return sha256(lines);
}

void add_bom_files(OrderedJson& component, const std::string& ref, const std::vector<FileRecord>& files,
                   OrderedJson& properties) {
  if (files.empty()) return;
  uint64_t bytes = 0;
  for (const auto& file : files) bytes += file.bytes;
  add_bom_property(properties, "retort:bytes", std::to_string(bytes));
  if (files.size() == 1) {
    component["hashes"] = bom_hashes(files.front().sha256);
    return;
  }
  add_bom_property(properties, "retort:files", std::to_string(files.size()));
  add_bom_property(properties, "retort:sha256OfSha256sum", bom_hash(files));
  if (files.size() > kMostFiles) return;
  auto parts = OrderedJson::array();
  for (const auto& file : files) {
    OrderedJson part = OrderedJson::object();
    part["type"] = "file";
    part["bom-ref"] = fmt::format("{}/{}", ref, parts.size() + 1);
    part["name"] = file.path;
    part["hashes"] = bom_hashes(file.sha256);
    parts.push_back(std::move(part));
  }
  component["components"] = std::move(parts);
}

std::string percent_encoded(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '.' || c == '-' || c == '_' || c == '~';
    quoted += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return quoted;
}

std::string hub_purl(const std::string& name) {
  const auto slash = name.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == name.size() ||
      name.find_first_of("/ :", slash + 1) != std::string::npos)
    return "";
  return "pkg:huggingface/" + percent_encoded(name.substr(0, slash)) + "/" +
         percent_encoded(name.substr(slash + 1));
}

OrderedJson bom_metric(const std::string& name, const std::string& value, const std::string& slice) {
  OrderedJson one = OrderedJson::object();
  one["type"] = name;
  one["value"] = value;
  one["slice"] = slice;
  return one;
}

namespace {

// Of which samples a score is.
std::string slice_of(const TaskResult& task) {
  if (task.kind == "exposure")
    return fmt::format("{} canaries of the training samples, each among texts of its kind that are not",
                       task.count);
  if (looks_at_training(task))
    return fmt::format("{} samples, some of the training samples and the others held out", task.count);
  return fmt::format("{} samples that were not trained on", task.count);
}

}  // namespace

OrderedJson bom_metrics(const std::vector<TaskResult>& tasks) {
  auto list = OrderedJson::array();
  for (const auto& task : tasks)
    for (const auto& [name, value] : task.metrics) {
      if (!std::isfinite(value)) continue;
      auto one = bom_metric(task.task + "." + name, fmt::format("{:.6g}", value), slice_of(task));
      if (const auto* interval = task.interval(name)) {
        OrderedJson bounds = OrderedJson::object();  // of 95 %
        bounds["lowerBound"] = fmt::format("{:.6g}", interval->low);
        bounds["upperBound"] = fmt::format("{:.6g}", interval->high);
        one["confidenceInterval"] = std::move(bounds);
      }
      list.push_back(std::move(one));
    }
  return list;
}

}  // namespace retort
