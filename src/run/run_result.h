// What a run came to: the gate, the table, the report page and the manifest.
#pragma once
#include <string>
#include <vector>

#include "report/run_record.h"
#include "run/run_stages.h"
#include "run/stage_distill.h"

namespace retort {

struct RunResult {
  SamplesResult samples;
  ModelResult base, tuned;
  TrainingResult training;
  ExpertsResult experts;
  std::vector<ModelResult> exports;
  DistillResult distill;
  std::vector<StageFailure> failures;
};

// Each bound of the recipe for each model it is meant for, and what must hold of every export: its tokenizer
// gives the base's ids, an adapter on its base is the trained model. A line, and whether it holds.
std::vector<std::pair<std::string, bool>> gate_lines(const Recipe& recipe, const RunResult& result,
                                                     const std::filesystem::path& run_folder);

// What is nobody's fault but ours: files of fp32 that read back as another model than was trained. A run that
// has any ends with a Failure, everything written.
std::vector<std::string> own_mistakes(const RunResult& result);
void throw_own_mistakes(const RunResult& result);

// Bytes on disk of the models that are no exports. A base that was cut for this run is in no file; an adapter
// needs its base, every weight trained does not.
struct ModelSizes {
  std::optional<uint64_t> base, tuned;
};
ModelSizes sizes_of(const Recipe& recipe, const TrainingResult& training);

// Rows and columns of the table for any models; for models that were only evaluated the rest is empty.
void add_models(RunRecord& record, const std::vector<const ModelResult*>& models, const ModelSizes& sizes);

uint64_t bytes_of(const std::filesystem::path& file_or_folder);

// Writes report.html when anything in it changed. Returns the record behind it.
RunRecord write_report(Run& run, const RunResult& result);

// Writes manifest.json and the ledger's entry about it when any stage did work, or when the process before
// was killed before it wrote them. `facts`: of that entry. Returns the end of the ledger.
LedgerHead close_run(Run& run, OrderedJson facts = OrderedJson::object());

}  // namespace retort
