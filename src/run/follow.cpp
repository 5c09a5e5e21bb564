#include "run/follow.h"

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "run/open_run.h"
#include "run/run_folder.h"
#include "run/run_stages.h"
#include "run/stage_train.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

enum class Word : char { train = 1, end = 2 };

// Rank 0's word, of all ranks.
Word word_of_all(Peers& peers, Word word = Word::end) {
  broadcast(peers, 0, std::as_writable_bytes(std::span(&word, 1)));
  return word;
}

}  // namespace

void require_dividable(const LoadedRecipe& loaded) {
  const auto& recipe = loaded.recipe;
  const auto refuse = [&](const char* what, const char* instead) {
    throw RecipeError(fmt::format("{}: {}: retort-ranks cannot divide that among ranks yet; {}", loaded.file,
                                  what, instead));
  };
  if (recipe.distill || recipe.teacher)
    refuse("distill", "train with `retort run` in one process, or without a teacher");
  if (recipe.device != "cpu") refuse("device", "set device: cpu, or train with `retort run` in one process");
  if (recipe.model.schedule == "layers")
    refuse("model.schedule: layers", "set it to tokens, or train with `retort run` in one process");
}

void begin_training(Peers& peers) { word_of_all(peers, Word::train); }
void end_run(Peers& peers) { word_of_all(peers, Word::end); }

void follow_run(LoadedRecipe loaded, Peers& peers) {
  auto& recipe = loaded.recipe;
  const auto folder = folder_of_rank(recipe.run.folder, peers.rank());
  recipe.run.folder = folder.string();
  recipe.data.cache.clear();  // one process writes a store
  // Rank 0 alone measures and exports.
  recipe.eval.tasks.clear(), recipe.gate.clear(), recipe.exports.gguf.clear();
  recipe.exports.adapter = recipe.exports.gguf_adapter = false;
  recipe.exports.merged = "none";
  {
    Run run(std::move(loaded), &peers);
    prepare_samples(run);
    while (word_of_all(peers) == Word::train) {
      std::vector<std::string> notes;
      const auto job = training_job(run, notes);
      try {
        train(run.recipe().train, job);
      } catch (const Stopped&) {
        // All ranks have stopped together, and rank 0 ends them once it has saved.
      }
    }
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

}  // namespace retort
