#include "run/teach_by_ranks.h"

#include <fmt/core.h>

#include <functional>
#include <utility>

#include "data/token_store.h"
#include "models/own_templates.h"
#include "run/choices.h"
#include "run/follow.h"
#include "run/open_teacher.h"
#include "run/run_folder.h"
#include "run/stage_distill.h"
#include "run/word.h"

namespace retort {
namespace {

// The teacher as `retort teach` asks it.
void with_teacher(const Recipe& recipe, const std::function<void(TeacherOfRun&)>& work) {
  const auto student = load_for_tokens(recipe);
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(student), *student.tokenizer);
  const auto dataset = load_dataset(recipe.data, *student.tokenizer, chat, nullptr, recipe.train.threads);
  TeacherOfRun teacher(recipe, *student.tokenizer, chat, dataset.train);
  work(teacher);
}

}  // namespace

Exit lead_teaching(LoadedRecipe loaded, Peers& peers) {
  say_choices(peers, at::kFloat);  // the teacher's type of computing is said when it is asked
  with_teacher(loaded.recipe, [&](TeacherOfRun& teacher) {
    teacher.share_with(peers, [&peers] { say(peers, Word::teach); });
    fmt::print("{}\n", teacher.complete());
  });
  return Exit::done;
}

void follow_teaching(LoadedRecipe loaded, Peers& peers) {
  auto& recipe = loaded.recipe;
  // Rank 0 alone writes: no folder of this name is made.
  recipe.teacher->cache = folder_of_rank(teacher_cache_folder(recipe), peers.rank()).string();
  recipe.data.cache.clear();
  try {
    const HeardChoices choices(peers);
    choices.apply(recipe);
    with_teacher(recipe, [&](TeacherOfRun& teacher) {
      teacher.share_with(peers, [] {});
      while (hear(peers) == Word::teach) teacher.help();
    });
  } catch (const RunEnded&) {
    // Rank 0 was stopped before it began.
  }
}

}  // namespace retort
