// A teacher's distribution depends on the tokens before it and on nothing else, so that is what names it: a
// hash of the tokens from the start of the text. However samples are shuffled, shared or cut into forests,
// the same context finds the same row, and a context that many samples share is asked and kept once.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "forest/samples.h"

namespace retort {

using Context = uint64_t;  // of two among a million, 3e-8 is the chance that any collide

// The context that ends with row i, for each row of the forest.
std::vector<Context> contexts(const Forest& forest);
// The contexts of a sample's tokens: [i] ends with token i.
std::vector<Context> contexts(const std::vector<int32_t>& tokens);

// Which positions a cache has, in the order of the samples, and how they are cut into parts of whole samples.
struct CachePlan {
  struct Part {
    size_t first_sample = 0, end_sample = 0;
    int64_t first_position = 0, positions = 0;
  };
  std::unordered_map<Context, int64_t>
      position;             // of each supervised context: the number of its first occurrence
  std::vector<Part> parts;  // each has at least `part_positions` positions, but for the last
  int64_t positions() const { return static_cast<int64_t>(position.size()); }
};
CachePlan plan_cache(const Samples& samples, int64_t part_positions);

// The same record cut by two tokenizers, found by its id. An id stands several times where a text was split
// or a source is repeated: those come in the same order on both sides. Samples of one side alone are left
// out. Numbers of samples of `ours` and of `theirs`.
std::vector<std::pair<size_t, size_t>> same_records(const Samples& ours, const Samples& theirs);

// Over tokens and weights of all samples: names them in a cache's provenance.
std::string samples_hash(const Samples& samples);

}  // namespace retort
