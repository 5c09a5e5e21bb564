// The batch: a token forest. N tokens in one row, cut into segments; a segment continues its parent or starts
// a text. A token sees the earlier tokens of its own segment and all tokens of its ancestors; its position is
// its depth. Packing is a forest of roots; a shared prompt, few-shot heads and answer options are parents,
// computed once.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace retort {

struct Segment {
  int32_t begin = 0, end = 0;  // rows [begin, end) of the forest, end > begin
  int32_t parent = -1;         // index of an earlier segment, or -1
  int32_t depth = 0;  // position of row `begin`: the parent's depth + the parent's length, 0 for a root
};

// One prediction that the loss counts: the hidden state at `row` predicts token `label`. A row may appear
// many times (a shared row with several continuations) or never (prompts). `sample` says whose prediction it
// is.
struct Target {
  int32_t row = 0;
  int32_t label = 0;
  float weight = 1;
  int32_t sample = 0;
};

struct Forest {
  std::vector<int32_t> tokens;     // [N]
  std::vector<int32_t> positions;  // [N]
  std::vector<Segment> segments;   // in row order, tiling [0, N); parents before children
  std::vector<Target> targets;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  // Appends a segment with these tokens; returns its index. The parent must exist already.
  int32_t add_segment(const std::vector<int32_t>& segment_tokens, int32_t parent = -1);
};

// The rows that targets name, rising and each once, and the targets with `row` as the place among them.
struct AskedRows {
  std::vector<int32_t> rows;
  std::vector<Target> targets;
};
AskedRows asked_rows(const Forest& forest);

// Attention as a list of blocks: queries [q_begin, q_end) see the concatenation of `keys`; the last q_end -
// q_begin rows of that concatenation are the queries' own rows and are seen causally. Concatenation order is
// depth order, so the key at index i of the concatenation has position i: windows and causality need no
// positions.
struct KeyRange {
  int32_t begin = 0, end = 0;  // rows of the keys
};
struct AttendBlock {
  int32_t q_begin = 0, q_end = 0;
  std::vector<KeyRange> keys;  // path from the root; adjacent ranges are merged
  int64_t key_count() const {
    int64_t count = 0;
    for (const auto& range : keys) count += range.end - range.begin;
    return count;
  }
};
std::vector<AttendBlock> attend_blocks(const Forest& forest);

// Pairs (query, key) that really attend: what attention costs.
int64_t attend_pairs(const Forest& forest);

// One tokenized sample on its way into a forest: tokens and, for each token after the first, the weight of
// its loss (0 = not supervised). weights[i] belongs to the prediction of tokens[i]; weights[0] is ignored:
// nothing predicts it.
struct Sample {
  std::vector<int32_t> tokens;
  std::vector<float> weights;
  std::string id;  // names the sample in errors and records (file:line), never its text
};

// What sharing saved: rows if nothing were shared, and rows in the forests.
struct Saving {
  int64_t plain_rows = 0;
  int64_t forest_rows = 0;
};

// Builds forests by a trie over `samples`: common prefixes become shared parents, each forest at most
// `budget_rows` rows (a sample longer than the budget gets a forest of its own). Sharing shorter than
// `shortest_shared` tokens is not worth a segment. The last token of a sample is never a row: it predicts
// nothing. Every supervised token becomes exactly one Target whose `sample` is the sample's index in
// `samples`. Deterministic.
std::vector<Forest> build_forests(const std::vector<Sample>& samples, int64_t budget_rows,
                                  int64_t shortest_shared = 4, Saving* saving = nullptr);

// Throws std::logic_error when the forest breaks its own rules (used by tests and on what comes back from a
// store).
void check_forest(const Forest& forest);

}  // namespace retort
