// What the scores are worth: against each other, against the most frequent class, and class by class.
#pragma once
#include "report/page.h"
#include "run/run_stages.h"

namespace retort {

// Every model's answers as classes beside those of a model that always gives the most frequent one; a table
// for each task whose answers repeat.
std::vector<Table> class_tables(const std::vector<const ModelResult*>& models);

// What the user's program makes of each model's answers; a table for each task that has one.
std::vector<Table> program_tables(const std::vector<const ModelResult*>& models);

// The classes one by one and, of at most 30, which were taken for which.
std::vector<Table> class_details(const std::vector<const ModelResult*>& models);

// Layer by layer, at least one.
Table experts_table(const std::vector<ExpertUse>& layers);

// The tuned model against the base, and each export against the tuned one (or the base), sample by sample.
// What cannot be told from chance is said to be inside the noise. No rows where nothing was measured twice.
Table difference_table(const std::filesystem::path& run_folder,
                       const std::vector<const ModelResult*>& models);

// What each source's held-out samples score, model by model; without rows where there is one source.
Table source_table(const std::filesystem::path& run_folder, const std::vector<const ModelResult*>& models,
                   const DataSpec& data, const std::vector<Record>& held_out);

}  // namespace retort
