// Canaries (Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232): texts with random digits that nobody
// could know, planted into the training samples, and their twins, of the same kind and never learned.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace retort {

struct Canaries {
  std::vector<Record> planted;  // their places: "data.canaries:1", ...
  std::vector<Record> twins;
};

// No two have the same digits. Always the same for a spec.
Canaries make_canaries(const CanarySpec& spec);

// Whether a sample or a place is a planted canary.
bool is_canary(std::string_view id);

// A canary or a twin as a sample. RecipeError where it is longer than data.sample_tokens: a cut one would
// be another one.
Sample canary_sample(const DataSpec& spec, const Record& canary, const Tokenizer& tokenizer,
                     const ChatTemplate& chat);

// "8 canaries are planted, each 50 times in an epoch (data.canaries)"; empty where there is none.
std::string describe(const CanarySpec& spec);

}  // namespace retort
