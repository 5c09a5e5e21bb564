// What `retort check` shows of the data, and what it refuses.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/overlap.h"

namespace retort {

// Samples as the model meets them, supervised tokens coloured (ANSI green) or, without `colour`, between ⟦
// and ⟧. Control bytes of the data are escaped, so a sample cannot drive the terminal. At most `longest`
// bytes of each.
std::string rendered_samples(const Samples& samples, const Tokenizer& tokenizer, size_t count, bool colour,
                             size_t longest = 4000);

struct SampleStatistics {
  int64_t samples = 0, tokens = 0, supervised = 0;
  int64_t shortest = 0, median = 0, p95 = 0, longest = 0;  // tokens
  std::vector<std::pair<int64_t, int64_t>> histogram;      // upper bound in tokens (a power of two), samples
  double supervised_share = 0;                             // supervised tokens / tokens
  double shared_saving = 0;  // share of rows that shared prefixes save, within steps of step_samples
};

// step_samples: how many samples an optimizer step takes (sharing happens inside one step); row budget in
// tokens.
SampleStatistics sample_statistics(const Samples& samples, int64_t step_samples, int64_t budget_rows,
                                   int64_t seed);

// Why training on these samples would go wrong; one line a kind, with the number of samples and the first
// places:
//   zero mask      no token is supervised
//   double BOS     two BOS tokens in front
//   untrained EOS  the last answer's end token is there but not supervised
//   cut answer     the last answer has no end token
std::vector<std::string> sample_problems(const Samples& samples, const Tokenizer& tokenizer,
                                         const ChatTemplate& chat);

// RecipeError with all lines of sample_problems() when there is one.
void refuse_bad_samples(const Dataset& dataset, const Tokenizer& tokenizer, const ChatTemplate& chat);

// The statistics, counts and overlap as text for the terminal.
std::string describe_samples(const DataSpec& spec, const Dataset& dataset, const SampleStatistics& statistics,
                             const Overlap& overlap);

// How the sources are used: a line for each with its records, sides and uses in an epoch, then groups and
// epochs. `epochs`: passes over the training samples, which may end within one.
std::string describe_sources(const DataSpec& spec, const RecordPlan& plan, double epochs);

}  // namespace retort
