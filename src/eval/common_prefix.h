// The beginning that all samples share (worked examples, an instruction), computed once for all passes over
// them.
#pragma once
#include <mutex>

#include "eval/subject.h"

namespace retort {

// Rows that every sample begins with and that predict nothing the samples are scored on.
int64_t common_rows(const std::vector<Sample>& samples);

// The samples without their first `rows` tokens.
std::vector<Sample> without_first(const std::vector<Sample>& samples, int64_t rows);

class CommonPrefix {
 public:
  // Computes the keys and values of `tokens`, which may be empty. `most_rows`: of any pass that follows.
  CommonPrefix(const Subject& subject, std::span<const int32_t> tokens, int64_t most_rows);

  // Hidden states of a forest whose texts continue the prefix (of `rows` alone where the pass says so:
  // ops/pass.h, ask_for), and the pass they came from. Safe to call from several threads.
  struct Continued {
    Tensor hidden;
    Pass pass;
  };
  Continued hidden(const Forest& forest, const std::vector<int32_t>& rows);

 private:
  KvCache copy(const KvCache& from, int64_t rows) const;
  Tensor run(Pass& pass, KvCache& cache, int64_t first_row) const;

  const Subject& subject_;
  int64_t rows_, capacity_;
  KvCache prefix_;
  std::mutex mutex_;
  std::vector<KvCache> free_;  // caches that begin with the prefix, one a thread at a time
};

}  // namespace retort
