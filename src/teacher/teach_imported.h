// Fills a teacher cache from what a teacher said elsewhere: top-k and a bucket for the rest, at each
// supervised position of the samples. Nothing is written before all of them are found.
#pragma once
#include <functional>

#include "teacher/scored_texts.h"
#include "teacher/teach.h"

namespace retort {

// Names a folder that DistillKit wrote by the hashes of its files. The folder may be gone once its cache is
// there: then the cache says it.
std::string distillkit_files(const std::filesystem::path& folder, const std::filesystem::path& cache);
// data_0.parquet, data_1.parquet, ... in this order; FormatError when there is none or one is missing between
// two.
std::vector<std::filesystem::path> distillkit_parts(const std::filesystem::path& folder);

TeacherIdentity identity_of_imported(const TeacherSpec& spec, const std::filesystem::path& cache,
                                     const Tokenizer& student, const ChatTemplate& chat, double temperature);

struct ImportJob {
  std::filesystem::path source;                        // where the texts are, for messages
  std::function<std::unique_ptr<ScoredTexts>()> open;  // called when something is missing
  int64_t vocabulary = 0;                              // the student's tokens
  Samples samples;
  std::filesystem::path folder;
  Provenance made_from;
  KeepSpec keep;  // draws: 0
};
struct ImportProgress {
  TeachProgress teach;          // tokens: of all texts
  int64_t texts = 0, used = 0;  // read; of those, with a position of the samples
  std::string remarks;
};
// FormatError when samples are not covered (how many, and the first) or rows stand beside other tokens than
// the ones they follow.
ImportProgress teach_imported(const ImportJob& job,
                              const std::function<void(const ImportProgress&)>& progress = nullptr);

}  // namespace retort
