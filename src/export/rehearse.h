// What would fail when a trained model is written is tried before it is trained.
#pragma once
#include <filesystem>
#include <string_view>

#include "adapters/adapter_spec.h"
#include "export/export_spec.h"
#include "models/model.h"

namespace retort {

// How the names of a rehearsal's folders begin: what a killed one left is known by it.
constexpr std::string_view kRehearsal = ".rehearsal-";

// Writes every whole-model export that `spec` asks for into a folder of its own inside of PARENT, tokenizer
// and metadata whole, holes instead of weights, loads what was written, and compares its configuration with
// the model's. RecipeError where a format cannot hold this model, naming the export and the reason; Failure
// when PARENT cannot be written. Nothing stays, PARENT neither where it was not there, and no file of it is
// in the process's lists of files read and written.
// `adapter` says what the model will be when it is trained: its head may be another matrix than its
// embedding.
void rehearse_exports(LoadedModel& loaded, const ExportSpec& spec, const AdapterSpec& adapter,
                      const std::filesystem::path& parent);

}  // namespace retort
