// What an export section asks for, as a list: one thing to write each.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "export/artefacts.h"
#include "export/export_spec.h"

namespace retort {

// One thing to write: its name in messages and in the ledger, what it leaves, and how.
struct Export {
  std::string name;
  std::filesystem::path path;  // beneath whatever folder the outputs are in
  std::vector<std::filesystem::path> outputs;
  std::string settings;         // what it depends on besides the weights
  bool whole_model = true;      // otherwise an adapter, which needs its base
  uint64_t expected_bytes = 0;  // of a weight
  std::function<Artefact(LoadedModel&, const std::filesystem::path& target)> write;
};

// Paths begin with `folder`. `adapter` says what is on the model, `system` the system message that it was
// trained with.
std::vector<Export> exports_of(const ExportSpec& spec, const AdapterSpec& adapter,
                               const std::filesystem::path& folder, int64_t threads,
                               const std::string& system = "");

// Of the embedding and the linear layers: what expected_bytes is multiplied with.
uint64_t parameters_of(const Model& model);

}  // namespace retort
