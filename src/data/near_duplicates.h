// Records that are nearly the same as another.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "data/record_source.h"

namespace retort {

struct NearDuplicates {
  std::vector<std::pair<int64_t, int64_t>> pairs;  // row, and the earlier one that it is like; by row
  std::vector<std::string> places;                 // "place ~ earlier place" of the first few
};

// Candidates are found by MinHash over runs of 5 words (Broder 1997; in bands, as in "Deduplicating Training
// Data Makes Language Models Better", arXiv:2107.06499), and then compared run by run, so that none is taken
// for another's by chance; of those as alike as `similarity` nearly all are found (at 0.8: 98 in 100).
// Records of fewer than 5 words are alike only when all words are. `wanted`: rows to look at; `first`: rows
// that come before others whatever their order. 160 bytes a record.
NearDuplicates find_near_duplicates(const RecordSource& source, double similarity,
                                    const std::function<bool(int64_t row)>& wanted,
                                    const std::function<bool(int64_t row)>& first = nullptr);

}  // namespace retort
