// A smaller model cut out of a larger one: whole layers, experts, feed-forward channels, heads, embedding
// channels, tokens. What is kept is ranked by what flows through it on calibration samples, nothing is
// trained.
#pragma once
#include <string>
#include <vector>

#include "forest/samples.h"
#include "models/model.h"
#include "student/prune_spec.h"

namespace retort {

// What flows through the parts of a model, over the rows of some samples (Minitron, arXiv:2408.11796
// section 2.2).
struct Importance {
  std::vector<double> layers;  // 1 - mean cosine of what enters and what leaves a layer
  std::vector<std::vector<double>>
      intermediate;  // [layer][channel]: L2 over samples of the mean |activation| that enters down_proj
  std::vector<std::vector<double>>
      kv_heads;  // [layer][head]: the same of the norm of the head's output, summed over its query heads
  std::vector<double> hidden;  // [channel]: the same of what leaves the norms, summed over layers
  struct Experts {
    std::vector<double> tokens;        // [expert]: how many go to it
    std::vector<double> contribution;  // [expert]: sum over them of router weight times norm of its output
    Tensor alike;                      // fp64 [expert, expert]: cosine of the router's logits over all tokens
  };
  std::vector<Experts> experts;  // [layer]; empty for a model without
};
Importance measure_importance(LoadedModel& source, at::ScalarType compute, const std::vector<Sample>& samples,
                              int64_t threads);

struct Pruned {
  LoadedModel model;
  std::vector<int64_t> layers;  // kept, by their number in the source
  std::vector<std::vector<int64_t>>
      experts;  // of each kept layer, by their number in the source; empty where all are kept
  std::vector<std::string> kept;  // what and why, a line each
};

// RecipeError when the spec asks for more than there is, for nothing, or for a width of a family whose
// matrices are fused. `samples` are those of the training data; the first spec.samples calibrate, all of them
// say which tokens are used.
Pruned prune(LoadedModel& source, at::ScalarType compute, const PruneSpec& spec, const Samples& samples,
             int64_t threads);

// One expert's gate [F,E], up [F,E] and down [E,F], fp32.
struct ExpertMatrices {
  Tensor gate, up, down;
};
// `other` with its channels in the order that fits `kept` best: each channel of `kept`, those of the largest
// norm first, takes the free one of the largest inner product over the three matrices. The order of channels
// changes nothing in what an expert computes.
ExpertMatrices aligned(const ExpertMatrices& kept, const ExpertMatrices& other);
// The average, each weighted by its share of the sum of `uses` (alike where that is 0); the first one's
// channels lead.
ExpertMatrices merge_experts(const std::vector<ExpertMatrices>& experts, const std::vector<double>& uses);

// The tokenizer with only these tokens, and their former ids in order. Every text whose tokens are all kept
// is cut as before. RecipeError for tokenizers without merges.
struct TrimmedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<int32_t> former;  // new id -> old id
};
TrimmedTokenizer trim_tokenizer(const Tokenizer& tokenizer, const std::vector<bool>& used);

// Another tokenizer for a model: which old tokens each new one starts as the mean of. A control token takes
// the one of its spelling or role, else those of its spelling as text.
struct TransplantedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<std::vector<int32_t>> former;  // new id -> old ids, at least one
};
TransplantedTokenizer transplant_tokenizer(const Tokenizer& old, std::shared_ptr<const Tokenizer> other);

}  // namespace retort
