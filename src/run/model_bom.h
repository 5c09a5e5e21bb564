// bom.cdx.json beside each model card: what a folder of exports holds and what it was made from, as a bill of
// materials (CycloneDX 1.7, an ML-BOM). Facts of the run's record alone; what nobody said is left out. It has
// no time and no path of this machine: that of a run that is made again has the same bytes.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "models/config.h"
#include "run/run_result.h"

namespace retort {

inline constexpr const char* kBomFile = "bom.cdx.json";

// What a model's own files say of its shape.
struct BomShape {
  ModelConfig config;
  std::string tokenizer;             // its kind, as the file names it
  std::string quantization_version;  // of a GGUF file
};

// One of result.exports, and its files by their names in the folder of the bill.
struct BomExport {
  const ModelResult* model = nullptr;
  std::vector<FileRecord> files;
  std::optional<BomShape> shape;  // of an adapter that of its base; absent where no file here says it
};

// Files of a model or of a data set, by their names there.
struct BomFiles {
  std::string name;
  std::vector<FileRecord> files;
  bool gone = false;  // when the bill was written: no hash of it can be given
};

struct BomInputs {
  const Recipe& recipe;
  const RunResult& result;
  std::vector<std::pair<std::string, bool>> gates;
  BomFiles base;
  std::string base_license;        // as its files state it; may be empty
  std::vector<BomFiles> adapters;  // that were merged into the base, or that the training started from
  std::optional<BomFiles> teacher;
  std::vector<BomFiles> sources;    // one for each of data.sources
  std::vector<BomFiles> questions;  // of tasks that are asked from files of their own
  FileRecord card;                  // README.md
};

// The bill of one folder of exports: the first model is the one that readers of a single model look at.
OrderedJson model_bom(const BomInputs& inputs, const std::vector<BomExport>& exports);
// As it stands in the file.
std::string bom_text(const OrderedJson& bom);

// Of the folder EXPORTS of the run, whose README.md is written. `manifest` has the hash of every file that
// the run read.
OrderedJson bom_of_folder(const Run& run, const RunResult& result, const RunRecord& record,
                          const Manifest& manifest, const std::filesystem::path& folder,
                          const std::vector<const ModelResult*>& models);

}  // namespace retort
