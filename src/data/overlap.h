// Do held-out samples occur in the training data?
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/record_plan.h"

namespace retort {

struct Overlap {
  int64_t held_out = 0;             // records looked at
  int64_t exact = 0;                // the same words in the same order, whatever the case and punctuation
  int64_t ngram = 0;                // not exact, but a run of 13 words occurs in the training data
  int64_t prompts = 0;              // what is asked, to the byte, is asked in the training data too
  std::vector<std::string> places;  // "held-out place = training place", the first few, exact ones first
};

// System messages are left out. As in GPT-3 (arXiv:2005.14165, appendix C) runs of 13 words are compared,
// lower-cased and without punctuation (characters in scripts that put no space between words), and runs found
// in more than 10 training records are taken for common text (instructions, boilerplate). Two records shorter
// than 13 words only meet as exact ones. Goes through the records three times; memory grows with the words
// held out.
Overlap find_overlap(const RecordSource& source, const RecordPlan& plan);
Overlap find_overlap(const std::vector<Record>& records, const std::vector<bool>& held_out);

}  // namespace retort
