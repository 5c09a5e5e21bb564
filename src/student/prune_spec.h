// The `prune:` section of a recipe: a student cut out of a larger model.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct PruneSpec {
  int64_t layers = 0;
  std::vector<int64_t> keep_layers = {};
  std::string rank_layers = "even";
  int64_t intermediate = 0, kv_heads = 0, hidden = 0;
  int64_t experts = 0;
  std::vector<int64_t> keep_experts = {};
  std::string rank_experts = "contribution", dropped_experts = "discard";
  bool vocabulary = false;
  std::string tokenizer = {};
  int64_t samples = 64;

  bool chooses_experts() const { return experts > 0 || !keep_experts.empty(); }
  // Whether anything is ranked by what flows through the model.
  bool measures() const {
    return rank_layers == "influence" || intermediate > 0 || kv_heads > 0 || hidden > 0 || experts > 0 ||
           (chooses_experts() && dropped_experts == "merge");
  }

  template <class Visitor> void fields(Visitor& field) {
    field("layers", layers, at_least(0), "layers kept; 0 = all");
    field("keep_layers", keep_layers, at_least(0), "layers kept, by number from 0; instead of `layers`");
    field("rank_layers", rank_layers, one_of({"even", "influence"}),
          "which `layers` are kept: spread evenly with the first and the last, or those that change the "
          "hidden state most (arXiv:2403.03853)");
    field("intermediate", intermediate, at_least(0),
          "feed-forward channels kept, those of the largest activations (arXiv:2408.11796); 0 = all");
    field("kv_heads", kv_heads, at_least(0),
          "key/value heads kept, each with its query heads, ranked the same way; 0 = all");
    field("hidden", hidden, at_least(0), "embedding channels kept, ranked by what leaves the norms; 0 = all");
    field("experts", experts, at_least(0), "experts kept in each layer of a model that has them; 0 = all");
    field("keep_experts", keep_experts, at_least(0),
          "experts kept in every layer, by number from 0; instead of `experts`");
    field("rank_experts", rank_experts, one_of({"contribution", "frequency"}),
          "which `experts` are kept: of the largest sum of router weight times output norm, or those that "
          "most tokens go to");
    field("dropped_experts", dropped_experts, one_of({"discard", "merge"}),
          "what becomes of the others: gone, or averaged by use into the kept one whose router logits are "
          "most alike, channels aligned (arXiv:2310.01334)");
    field("vocabulary", vocabulary, any(),
          "keep only tokens that the samples use (and control tokens, single bytes, and what they are merged "
          "from)");
    field("tokenizer", tokenizer, any(),
          "give the student another tokenizer, a model folder or a SentencePiece .model file: each new token "
          "starts as the mean of the old tokens that its text is cut into; empty: its own");
    field("samples", samples, between(1, 1 << 20), "training samples over which activations are measured");
  }
};

}  // namespace retort
