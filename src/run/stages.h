// What a run has done already. A stage is skipped when everything it was made from (recipe sections, input
// files, earlier stages, the program) is what it was, and what it wrote is still there, byte for byte.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "base/json_fields.h"
#include "report/manifest.h"

namespace retort {

// Everything a stage's result depends on, hashed in order.
class StageInputs {
 public:
  StageInputs& add(const std::string& name, const std::string& text);  // a recipe section, a setting
  StageInputs& add_file(const std::filesystem::path& file);            // by content
  std::string sha256() const;

 private:
  std::string description_;
};

template <class Values> struct StageResult {
  std::string inputs;  // StageInputs::sha256()
  Values values;       // what later stages and the report need
  double seconds = 0;
  bool skipped = false;  // taken from an earlier run
};

// What stages.json holds of one stage.
struct StageRecord {
  std::string inputs;
  Json values;
  double seconds = 0;
  std::vector<FileRecord> outputs;  // paths inside the run's folder

  template <class Visitor> void fields(Visitor& field) {
    field("inputs", inputs), field("values", values), field("seconds", seconds), field("outputs", outputs);
  }
};

class StageLedger {
 public:
  explicit StageLedger(std::filesystem::path folder);  // reads FOLDER/stages.json

  // Runs `work` unless its result is recorded for the same inputs. `outputs` are files or folders inside the
  // run's folder. `work` returns the values to record: a struct that lists its fields (base/json_fields.h).
  template <class Work> auto run(const std::string& name, const StageInputs& inputs,
                                 const std::vector<std::filesystem::path>& outputs, Work&& work) {
    using Values = std::invoke_result_t<Work>;
    std::optional<Values> made;
    const auto stage = run_stage(name, inputs, outputs, [&] { return json_of(made.emplace(work())); });
    return StageResult<Values>{stage.inputs,
                               made ? std::move(*made) : read_as<Values>(stage.values, values_place(name)),
                               stage.seconds, stage.skipped};
  }
  // Every stage that does work becomes an entry there, and so do files from outside when they were read
  // first.
  void record_in(Ledger& events) { events_ = &events; }
  // From hold() to let_go() nothing is written: what is recorded in between waits.
  void hold() { held_ = true; }
  void let_go();
  // Whether run() would skip it.
  bool done(const std::string& name, const StageInputs& inputs) const;
  // Hash of what a recorded stage wrote, name by name.
  std::string outputs_hash(const std::string& name) const;
  // Hash of all that is recorded but the stages of `except`.
  std::string hash(const std::set<std::string>& except) const;
  // Whether any stage did work since this ledger was opened.
  bool worked() const { return worked_; }
  // Every file from outside that the recorded stages read, whichever process ran them.
  std::vector<std::filesystem::path> files_read() const;

 private:
  StageResult<Json> run_stage(const std::string& name, const StageInputs& inputs,
                              const std::vector<std::filesystem::path>& outputs,
                              const std::function<Json()>& work);
  JsonPlace values_place(const std::string& name) const;
  void save();
  void record(const std::string& name, const StageRecord& stage);
  bool still_there(const StageRecord& stage) const;
  std::filesystem::path folder_;
  std::map<std::string, StageRecord> stages_;
  std::set<std::string> read_;
  Ledger* events_ = nullptr;
  bool worked_ = false, held_ = false, waiting_ = false;
};

}  // namespace retort
