// The teacher of a recipe: loaded when it is first needed, its cache made or found, its objective.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "distill/objective.h"
#include "recipe/recipe.h"
#include "teacher/teach.h"
#include "teacher/teach_imported.h"
#include "teacher/teach_served.h"

namespace retort {

class Peers;  // base/peers.h

// What a student is trained with, and what learns besides it (projections of feature losses), alive with the
// objective.
struct TaughtObjective {
  Objective objective;
  std::vector<NamedTensor> auxiliary = {};
  std::vector<std::string> notes = {};  // for the report
};

// RecipeError when the recipe's teacher on disk cannot teach this student: no such model, other tokens than
// distill.alignment allows, layers that features name and it lacks. Nothing is converted or asked; a run
// calls it before it writes anything.
void require_usable_teacher(const Recipe& recipe, const LoadedModel& student);

// Where what it said is kept.
std::filesystem::path teacher_cache_folder(const Recipe& recipe);

class TeacherOfRun {
 public:
  // `samples` are the training samples in the student's tokens and must outlive this. The recipe has a
  // teacher section.
  TeacherOfRun(const Recipe& recipe, const Tokenizer& student, const ChatTemplate& chat,
               const Samples& samples);

  // RecipeError when distill.alignment asks for the student's tokens and it has others.
  Teacher& teacher();
  // Whether it has other tokens than the student, so that probabilities are carried over by bytes.
  bool other_tokens();
  // The recipe's samples in the teacher's tokens, for a teacher with other tokens.
  const Dataset& dataset();
  const ChatTemplate& chat();
  // FormatError where the cache that is there was made from something else.
  void require_own_cache();
  // Makes the parts that are missing, showing progress; one line about the cache.
  std::string complete(int64_t shard = 0, int64_t shards = 1);
  // Ranks make them together: complete() at rank 0 then has the others come to help(), by `call`, where
  // something is missing, and does nothing at the others, whose caches are copies of rank 0's.
  void share_with(Peers& peers, std::function<void()> call);
  void help();
  // Fills the cache from teacher.distillkit, showing progress; one line about the cache.
  std::string import_texts(const std::function<std::unique_ptr<ScoredTexts>()>& open);
  // Completes the cache first unless the teacher is live.
  TaughtObjective objective(const ModelConfig& student);

 private:
  TeachJob job();
  // All ranks call it together; nothing at the others where rank 0 has thrown something.
  std::optional<TeachJob> shared_job();
  bool served() const { return !recipe_.teacher->url.empty(); }
  ServedTeacher& served_teacher();
  ServedTeachJob served_job();
  std::string complete_served(int64_t shard, int64_t shards);
  Provenance cache_made_from();
  bool imported() const { return !recipe_.teacher->distillkit.empty(); }
  ImportJob import_job();
  std::shared_ptr<const TeacherCache> imported_cache();
  Samples taught() { return other_tokens() ? dataset().train : samples_; }
  const Recipe& recipe_;
  const Tokenizer& student_;
  const ChatTemplate& chat_;
  Samples samples_;
  DistillSpec distill_;
  std::optional<Teacher> teacher_;
  std::unique_ptr<ServedTeacher> served_;
  std::optional<Dataset> dataset_;
  bool other_tokens_ = false;
  Peers* peers_ = nullptr;
  std::function<void()> call_;
};

// What a teacher on this machine costs beside its student, of ranks each; zeros where the recipe has none.
struct TeacherSize {
  uint64_t bytes = 0;                 // of weights, as they are held
  uint64_t mapped = 0;                // of that, pages of its file
  double share = 0;                   // of the student's weights in linear layers: what a row costs
  bool stays = false;                 // in memory while the student trains
  std::vector<uint64_t> layers = {};  // bytes of each, where it is read layer by layer
};
TeacherSize teacher_size(const Recipe& recipe, Model& student, bool by_ranks = false);

// Rank 0 gives its cache to the others, each of which keeps a copy where its own recipe says.
void give_cache(Peers& peers, const Recipe& recipe);
void take_cache(Peers& peers, const Recipe& recipe);

// `retort teach` with teacher.answers: the server answers the prompts of the training samples; one line about
// the file.
std::string collect_answers(const Recipe& recipe, const Tokenizer& student);

}  // namespace retort
