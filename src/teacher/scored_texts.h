// What a teacher said elsewhere about a fixed set of texts, as a folder keeps it. Only what is in it is known
// here; its files are read by src/import, which not every program has.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "teacher/served_teacher.h"

namespace retort {

struct ScoredText {
  std::string place;  // file and number, for messages
  std::vector<int32_t> tokens;
  std::vector<TopRow> rows;  // [p] is what follows tokens[0..p]; as many as tokens, or one fewer
};

class ScoredTexts {
 public:
  virtual ~ScoredTexts() = default;
  // The next one; false at the end.
  virtual bool next(ScoredText& text) = 0;
  // What was met so far and is worth a line; empty when nothing.
  virtual std::string remarks() const = 0;
};

// The vocabularies that a student's teacher can have been counted with.
struct StudentTokens {
  int64_t tokens = 0;  // of the tokenizer
  int64_t rows = 0;    // of the matrices, which may be padded
};

// A folder that DistillKit wrote: src/import, which only retort-import has.
std::unique_ptr<ScoredTexts> open_distillkit(const std::filesystem::path& folder,
                                             const StudentTokens& student);

}  // namespace retort
