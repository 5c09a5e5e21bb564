// A trie over the samples of one optimizer step. Samples are sorted by their tokens, so that those with a
// common prefix stand together; each forest takes a run of them within its budget, and its trie is cut into
// segments recursively.
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "forest/forest.h"

namespace retort {
namespace {

int64_t rows_of(const Sample& sample) { return static_cast<int64_t>(sample.tokens.size()) - 1; }

// Common prefix of two samples in rows: the last token of a sample is never a row.
int64_t shared_rows(const Sample& a, const Sample& b) {
  const auto limit = std::min(rows_of(a), rows_of(b));
  return std::mismatch(a.tokens.begin(), a.tokens.begin() + limit, b.tokens.begin()).first - a.tokens.begin();
}

class Trie {
 public:
  Trie(const std::vector<Sample>& samples, int64_t shortest_shared)
      : samples_(samples), shortest_(std::max<int64_t>(1, shortest_shared)) {}

  // Adds samples order[first, last), which agree on their first `depth` rows, below `parent`.
  void grow(Forest& forest, const std::vector<int64_t>& order, int64_t first, int64_t last, int64_t depth,
            int32_t parent) {
    while (first < last) {
      int64_t end = first + 1;
      int64_t common = rows_of(samples_[order[first]]);
      for (; end < last; ++end) {  // the longest run that shares at least shortest_ rows beyond `depth`
        const auto shared = std::min(common, shared_rows(samples_[order[end - 1]], samples_[order[end]]));
        if (shared < depth + shortest_) break;
        common = shared;
      }
      if (end == first + 1) {
        leaf(forest, order[first], depth, parent);
      } else {
        const auto& tokens = samples_[order[first]].tokens;
        const auto segment = forest.add_segment({tokens.begin() + depth, tokens.begin() + common}, parent);
        for (int64_t i = first; i < end; ++i) targets(forest, order[i], depth, common, segment);
        grow(forest, order, first, end, common, segment);
      }
      first = end;
    }
  }

 private:
  void leaf(Forest& forest, int64_t sample, int64_t depth, int32_t parent) {
    const auto rows = rows_of(samples_[sample]);
    if (rows <= depth) return;  // ends where its parent ends: every target is there already
    const auto& tokens = samples_[sample].tokens;
    const auto segment = forest.add_segment({tokens.begin() + depth, tokens.begin() + rows}, parent);
    targets(forest, sample, depth, rows, segment);
  }

  // The supervised tokens that rows [from, to) of the sample predict.
  void targets(Forest& forest, int64_t sample, int64_t from, int64_t to, int32_t segment) {
    const auto& [tokens, weights, id] = samples_[sample];
    for (int64_t row = from; row < to; ++row)
      if (weights[row + 1] != 0)
        forest.targets.push_back({forest.segments[segment].begin + static_cast<int32_t>(row - from),
                                  tokens[row + 1], weights[row + 1], static_cast<int32_t>(sample)});
  }

  const std::vector<Sample>& samples_;
  int64_t shortest_;
};

}  // namespace

std::vector<Forest> build_forests(const std::vector<Sample>& samples, int64_t budget_rows,
                                  int64_t shortest_shared, Saving* saving) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].tokens.size() != samples[i].weights.size())
      throw std::logic_error("a sample has one weight a token");
    if (samples[i].tokens.size() >= 2) order.push_back(static_cast<int64_t>(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return samples[a].tokens < samples[b].tokens; });
  const auto shortest = std::max<int64_t>(1, shortest_shared);

  std::vector<Forest> forests;
  Trie trie(samples, shortest);
  for (size_t first = 0; first < order.size();) {
    // Rows of a run in sorted order: each further sample adds what it does not share with its neighbour.
    int64_t rows = rows_of(samples[order[first]]);
    size_t last = first + 1;
    for (; last < order.size(); ++last) {
      const auto shared = shared_rows(samples[order[last - 1]], samples[order[last]]);
      const auto added = rows_of(samples[order[last]]) - (shared >= shortest ? shared : 0);
      if (rows + added > budget_rows) break;
      rows += added;
    }
    Forest forest;
    trie.grow(forest, order, static_cast<int64_t>(first), static_cast<int64_t>(last), 0, -1);
    forests.push_back(std::move(forest));
    first = last;
  }
  if (saving) {
    *saving = {};
    for (const auto i : order) saving->plain_rows += rows_of(samples[i]);
    for (const auto& forest : forests) saving->forest_rows += forest.size();
  }
  return forests;
}

}  // namespace retort
