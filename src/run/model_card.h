// What goes with the exports: a model card in each folder with a bill of materials (model_bom.h), and the
// dossier of the run. All are written from what the run's stages and ledger keep, and say "not stated" where
// nobody said it.
#pragma once
#include "run/run_result.h"

namespace retort {

// The metadata that hubs read, between "---" lines, and the card below it. `model`: one of result.exports.
std::string model_card(const Recipe& recipe, const RunResult& result, const ModelResult& model);

// Sections named after the items of Annex XI and IV of the AI Act, as a page for report/page.h and
// report/markdown.h. No claim that the items are fulfilled.
Page dossier(const Run& run, const RunResult& result, const RunRecord& record,
             const std::vector<LedgerEntry>& entries);

// Writes export/**/README.md and bom.cdx.json, dossier.md and dossier.html where anything in them changed.
void write_cards(Run& run, const RunResult& result, const RunRecord& record);

// What cards, dossier and bills say alike.
std::string model_title(const Recipe& recipe);
// The tasks as this export scored them; of an adapter, which is the trained model on its base, the tuned
// one's.
const std::vector<TaskResult>& scores_of_export(const RunResult& result, const ModelResult& model);
std::string computation_line(const TrainingResult& training, const RecipeCard& card);
// Of files the names alone: without the folders of this machine.
std::vector<std::string> known_limits(const Recipe& recipe, const RunResult& result);

}  // namespace retort
