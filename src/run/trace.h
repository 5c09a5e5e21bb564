// Which runs met a record: looked up by hash in what they wrote, without a text and without their sources.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/record_list.h"

namespace retort {

// What is looked for: hashes of records, a group's hash, or a place in a source. `what` says it to people.
struct Sought {
  std::map<std::string, std::string> records;  // hash -> how it was named
  std::string group;                           // hash; empty: none
  std::string place;                           // empty: none
  bool fits(const ListedRecord& record) const;
};

// Of the records in FILE, each read as every source of the run's recipe would read it: its hashes.
// RecipeError where no source can.
std::map<std::string, std::string> hashes_in_file(const std::filesystem::path& file,
                                                  const std::filesystem::path& run_folder);

struct StepsOfRecord {
  std::vector<int64_t> steps, epochs;  // in rising order, each once
};

struct TracedRecord {
  ListedRecord record;
  StepsOfRecord learned;  // empty where the training was of other samples (rounds), or is not made
};

struct Trace {
  std::vector<TracedRecord> records;   // those that the run has
  int64_t listed = 0;                  // records of the run
  int64_t steps = 0;                   // made so far
  bool rounds = false;                 // distill.on_policy: answers to its prompts were learned
  std::vector<std::string> weights;    // what holds weights of the training, inside of the run
  std::vector<std::string> token_ids;  // files that hold its samples as token ids
  std::vector<std::string> answers;    // evaluations that asked held-out samples
  std::vector<std::string> members;    // evaluations whose membership test scored any of the records
};

// FormatError where RUN is no run, or one of a version that kept no list of its records.
Trace trace_records(const std::filesystem::path& run_folder, const Sought& sought);

// Of the files that RUN read, those that FROM wrote, by content: a run that went on with another's result.
std::vector<std::string> read_from(const std::filesystem::path& run_folder,
                                   const std::filesystem::path& from);

}  // namespace retort
