// Keeps what a teacher behind a server says: its likeliest tokens at each supervised position in a teacher
// cache (top-k and a bucket for the rest), or answers of its own in a JSONL file.
#pragma once
#include <functional>

#include "data/record.h"
#include "teacher/served_teacher.h"
#include "teacher/teach.h"

namespace retort {

// The server and the model's name there stand for the weights, whose hash nobody tells.
TeacherIdentity identity_of_served(const TeacherSpec& spec, const Tokenizer& student,
                                   const ChatTemplate& chat, double temperature);

struct ServedTeachJob {
  std::function<ServedTeacher&()> teacher;  // asked for when something is missing
  int64_t vocabulary = 0;                   // the student's tokens
  Samples samples;
  std::filesystem::path folder;
  Provenance made_from;
  KeepSpec keep;  // draws: 0
  int64_t samples_at_a_time = 16;
  int64_t shard = 0, shards = 1;
};
// As teach(): makes the parts that are missing. The name of the server's model stands in the folder
// (served-model): RecipeError for another one.
TeachProgress teach_served(const ServedTeachJob& job,
                           const std::function<void(const TeachProgress&)>& progress = nullptr);

struct AnswersProgress {
  int64_t answers = 0, done = 0, finished = 0;  // planned; in the file; of those, ended by themselves
  int64_t asked = 0;                            // in this session
};
struct AnswersJob {
  std::function<ServedTeacher&()> teacher;  // asked for when something is missing
  std::string model;                        // empty: the server's only one, which has to stay the same
  const std::vector<Record>& records;
  const AnswersSpec& spec;
  int64_t at_a_time = 16;
};
// Appends what is missing to spec.file, in the order of the records: {"prompt": [...], "completion",
// "finish_reason", "reference" (the record's own answer), "source" (its place), "number", "teacher",
// "settings"}. A line that a kill cut off is written again; a line that is not the planned one is a
// RecipeError.
AnswersProgress sample_answers(const AnswersJob& job,
                               const std::function<void(const AnswersProgress&)>& progress = nullptr);

}  // namespace retort
