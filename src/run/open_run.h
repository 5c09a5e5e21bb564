// What the commands share that work on a run.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/later.h"
#include "base/locked_folder.h"
#include "data/dataset.h"
#include "models/model.h"
#include "plan/fit_memory.h"
#include "recipe/recipe.h"
#include "report/ledger.h"
#include "run/stages.h"

namespace retort {

class Peers;  // base/peers.h

// What a stage came to, in one line.
struct StageLine {
  std::string name, what;
  double seconds = 0;
  bool skipped = false;  // found done
};

// A run: its recipe, its folder, what is done already, and what its stages share, each made when it is first
// asked for.
class Run {
 public:
  // Reads what the recipe names far enough to know that it is there; then takes the folder. Nothing is
  // written before, and nothing of an earlier run is replaced before it is known that this one may go on with
  // it. `peers`: the other processes that compute it; rank 0 says to them what it chose, first what `compute`
  // is at every other rank.
  explicit Run(LoadedRecipe loaded, Peers* peers = nullptr,
               std::optional<at::ScalarType> compute = std::nullopt);

  const Recipe& recipe() const { return loaded_.recipe; }
  const LoadedRecipe& loaded() const { return loaded_; }
  const std::filesystem::path& folder() const { return folder_; }
  StageLedger& ledger() { return *ledger_; }
  Ledger& events() { return *events_; }

  // Hashed descriptions of what every stage depends on: the program, the base model's files, and how it is
  // computed with; the samples besides.
  StageInputs model_inputs();
  StageInputs sample_inputs();

  at::ScalarType compute();  // chosen once a run: a second measurement might come out differently
  at::Device device() const { return device_; }
  LoadedModel& model();    // one model: the plain base until it is trained or trained() is called
  LoadedModel& trained();  // with what the finished training left
  void model_is_trained() { trained_ = true; }
  // What is trained, where an adapter is attached; empty before.
  const std::vector<NamedTensor>& leaves() const { return leaves_; }
  void keep_leaves(std::vector<NamedTensor> leaves) { leaves_ = std::move(leaves); }
  // Of the files of adapter.from, by content; empty where the training starts from a fresh adapter.
  const std::string& started_from() const { return started_from_; }
  const ChatTemplate& chat();
  const Dataset& dataset();  // from the store
  void make_dataset();       // from the sources, in memory; of a store that the recipe names, from there
  void write_store();        // of the run's own, once its data set is made
  // Which records are whose, of the sources as they were read for the data set, which the run forgets by
  // that; planned anew where nobody has.
  RecordPlan take_plan(const RecordSource& files);
  DataSpec data_spec() const;  // with the run's own store where the recipe names no cache
  bool own_store() const { return recipe().data.cache.empty(); }
  bool trains() const { return recipe().adapter.kind != "none"; }
  Peers* peers() const { return peers_; }

  // A line of progress, on standard error; of several ranks rank 0's.
  void say(const StageLine& line) const;
  void say(const std::string& stage, const std::string& text) const;
  double seconds_since_start() const;  // since the process was started

 private:
  void look_at_everything();  // what a recipe may be refused for, before anything is written
  void read_samples();
  void refuse_without_memory();
  void keep_to_budget();
  MemoryPrediction predicted(RunWork& work);
  at::ScalarType measured_compute();
  at::ScalarType compute_by(StageLedger& ledger);
  // Of ranks: all do what rank 0 chose, and need no more together than their machine has.
  void choose_for_all(bool begins);
  void agree_on_memory();
  LoadedRecipe loaded_;
  Peers* const peers_;
  std::filesystem::path folder_;
  Later<std::string> model_files_, sample_files_;  // hashes, worked out beside the reading
  std::string started_from_;                       // a hash
  std::optional<LockedFolder> lock_;
  std::optional<Ledger> events_;
  std::optional<StageLedger> ledger_;
  at::Device device_;
  std::optional<at::ScalarType> measured_, compute_;
  std::optional<MemoryChoice> memory_;  // of train.memory
  std::optional<LoadedModel> model_;
  bool trained_ = false;
  std::vector<NamedTensor> leaves_;
  std::optional<Dataset> dataset_;
  std::optional<RecordPlan> plan_;  // that dataset_ was made by
};

// Files that loading a model folder or a .gguf file (all its splits) opens.
std::vector<std::filesystem::path> model_files(const std::filesystem::path& path);

}  // namespace retort
