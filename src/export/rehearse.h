// What would fail when a trained model is written is tried before it is trained.
#pragma once
#include "export/export_spec.h"
#include "models/model.h"

namespace retort {

// Writes every whole-model export that `spec` asks for into a temporary folder, tokenizer and metadata whole,
// holes instead of weights, loads what was written, and compares its configuration with the model's.
// RecipeError where a format cannot hold this model, naming the export and the reason. Nothing stays, and no
// file of it is in the process's lists of files read and written.
void rehearse_exports(LoadedModel& loaded, const ExportSpec& spec);

}  // namespace retort
