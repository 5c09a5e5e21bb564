#include "run/follow.h"

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/locked_folder.h"
#include "eval/company.h"
#include "run/choices.h"
#include "run/open_run.h"
#include "run/open_teacher.h"
#include "run/run_folder.h"
#include "run/run_stages.h"
#include "run/stage_train.h"
#include "run/word.h"
#include "train/state_bytes.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const LoadedRecipe& loaded, const char* what, const char* instead) {
  throw RecipeError(
      fmt::format("{}: {}: retort-ranks cannot divide that among ranks yet; {}", loaded.file, what, instead));
}

// A rank's own folder, which is gone at the end, also where that is an error or a stop. What is no run's, or
// another process works in, stays.
class OwnFolder {
 public:
  explicit OwnFolder(fs::path path) : path_(std::move(path)) {}
  ~OwnFolder() {
    try {
      if (!holds_run(path_)) return;
      const LockedFolder lock(path_);
      std::error_code ignored;
      fs::remove_all(path_, ignored);
    } catch (const std::exception&) {}  // it is in use
  }
  OwnFolder(const OwnFolder&) = delete;
  OwnFolder& operator=(const OwnFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void ask_teacher_with_all(Run& run) {
  TeacherOfRun teacher(run.recipe(), *run.model().tokenizer, run.chat(), run.dataset().train);
  teacher.share_with(*run.peers(), [] {});
  teacher.help();
}

void train_with_all(Run& run) {
  std::vector<std::string> notes;
  const auto job = training_job(run, notes);
  try {
    train(run.recipe().train, job);
  } catch (const Stopped&) {
    // All ranks have stopped together, and rank 0 ends them once it has saved.
  }
}

void move_weights(Run& run) {
  for (const auto& leaf : bytes_of(run.leaves())) broadcast(*run.peers(), 0, leaf.bytes);
}

void take_weights(Run& run) {
  const auto& recipe = run.recipe();
  if (run.leaves().empty())
    run.keep_leaves(start_adapter(run.model(), recipe.adapter, static_cast<uint64_t>(recipe.train.seed)));
  move_weights(run);
  for (const auto& leaf : run.leaves()) leaf.tensor->unsafeGetTensorImpl()->bump_version();
}

void do_as_told(Run& run, Word word) {
  auto& peers = *run.peers();
  switch (word) {
    case Word::teach: return ask_teacher_with_all(run);
    case Word::cache: return take_cache(peers, run.recipe());
    case Word::train: return train_with_all(run);
    case Word::weights: return take_weights(run);
    case Word::score: return help_with_scores(peers, *run.model().model, *run.model().tokenizer);
    case Word::hear:
    case Word::end: break;
  }
  throw std::logic_error("rank 0 speaks of something else");
}

// Rank 0 alone writes, and measures what is not divided.
void leave_the_rest_to_rank_zero(Recipe& recipe) {
  recipe.data.cache.clear();  // one process writes a store
  if (recipe.teacher) recipe.teacher->cache.clear();
  recipe.eval.tasks.clear(), recipe.gate.clear(), recipe.exports.gguf.clear();
  recipe.exports.adapter = recipe.exports.gguf_adapter = false;
  recipe.exports.merged = "none";
}

}  // namespace

void require_dividable(const LoadedRecipe& loaded) {
  const auto& recipe = loaded.recipe;
  if (recipe.distill && recipe.distill->on_policy)
    refuse(loaded, "distill.on_policy", "train with `retort run` in one process");
  if (recipe.teacher) require_dividable_teacher(loaded);
  if (recipe.device != "cpu")
    refuse(loaded, "device", "set device: cpu, or train with `retort run` in one process");
  if (recipe.model.schedule == "layers" && recipe.adapter.kind != "none")
    refuse(
        loaded, "model.schedule: layers",
        "training reads all of its layers in each rank; set it to tokens, or train with `retort run` in one "
        "process");
}

void require_dividable_teacher(const LoadedRecipe& loaded) {
  const auto& recipe = loaded.recipe;
  if (!recipe.teacher)
    throw RecipeError(
        fmt::format("{}: teacher: missing; expected a section that names the teacher", loaded.file));
  if (!recipe.teacher->at_hand())
    refuse(loaded, recipe.teacher->url.empty() ? "teacher.distillkit" : "teacher.url",
           "name a teacher on this machine (teacher.path), or use one process");
  if (recipe.teacher->live)
    refuse(loaded, "teacher.live", "set it to false, so that its answers are kept in a cache");
  if (recipe.device != "cpu") refuse(loaded, "device", "set device: cpu, or use one process");
}

void begin_training(Run& run) {
  auto& peers = *run.peers();
  if (run.recipe().distill) {
    say(peers, Word::cache);
    give_cache(peers, run.recipe());
  }
  say(peers, Word::train);
}

void give_weights(Run& run) {
  if (!run.trains()) return;
  say(*run.peers(), Word::weights);
  move_weights(run);
}

void end_run(Peers& peers) { say(peers, Word::end); }

void follow_run(LoadedRecipe loaded, Peers& peers) {
  auto& recipe = loaded.recipe;
  const OwnFolder folder(folder_of_rank(recipe.run.folder, peers.rank()));  // outlives the run
  recipe.run.folder = folder.path().string();
  leave_the_rest_to_rank_zero(recipe);
  if (recipe.teacher && fs::exists(teacher_cache_folder(recipe))) {
    const LockedFolder lock(folder.path());  // of a rank that was killed, not of one that works
    std::error_code ignored;
    fs::remove_all(teacher_cache_folder(recipe), ignored);
  }
  try {
    const HeardChoices choices(peers);
    choices.apply(recipe);
    Run run(std::move(loaded), &peers, choices.compute());
    prepare_samples(run);
    for (auto word = hear(peers); word != Word::end; word = hear(peers)) do_as_told(run, word);
  } catch (const RunEnded&) {
    // Rank 0 was stopped before it began.
  }
}

}  // namespace retort
