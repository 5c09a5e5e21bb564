// The teacher of a recipe: loaded when it is first needed, its cache made or found, its objective.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "distill/objective.h"
#include "distill/teach.h"
#include "distill/teach_served.h"
#include "recipe/recipe.h"

namespace retort {

class TeacherOfRun {
 public:
  // `samples` are the training samples and must outlive this. The recipe has a teacher section.
  TeacherOfRun(const Recipe& recipe, const Tokenizer& student, const ChatTemplate& chat, const std::vector<Sample>& samples);

  Teacher& teacher();
  std::filesystem::path cache_folder() const;
  // Makes the parts that are missing, showing progress; one line about the cache.
  std::string complete(int64_t shard = 0, int64_t shards = 1);
  // What the student is trained with; completes the cache first unless the teacher is live.
  Objective objective();

 private:
  TeachJob job();
  bool served() const { return !recipe_.teacher->url.empty(); }
  ServedTeacher& served_teacher();
  ServedTeachJob served_job();
  std::string complete_served(int64_t shard, int64_t shards);
  const Recipe& recipe_;
  const Tokenizer& student_;
  const ChatTemplate& chat_;
  const std::vector<Sample>& samples_;
  DistillSpec distill_;
  std::optional<Teacher> teacher_;
  std::unique_ptr<ServedTeacher> served_;
};

// `retort teach` with teacher.answers: the server answers the prompts of the training samples; one line about the file.
std::string collect_answers(const Recipe& recipe, const Tokenizer& student);

}  // namespace retort
