// One model against another on the same forests: is the exported file the model that was trained?
#pragma once
#include "forest/forest.h"
#include "models/computed_model.h"

namespace retort {

struct Agreement {
  int64_t rows = 0;    // supervised rows compared
  double kl_nats = 0;  // mean of KL(reference || other) per row, over the whole vocabulary
  double largest_kl_nats = 0;
  double top1 = 0;            // share of rows with the same arg max
  double reference_nats = 0;  // per supervised token
  double other_nats = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("rows", rows);
    field("kl_nats", kl_nats);
    field("largest_kl_nats", largest_kl_nats);
    field("top1", top1);
    field("reference_nats", reference_nats);
    field("other_nats", other_nats);
  }
  double reference_perplexity() const;
  double other_perplexity() const;
};

// Logits exist for a few dozen rows at a time. Where one vocabulary is padded, both are cut to the smaller
// size before the softmax. Both models must have the same tokenizer (compare Tokenizer::hash() first).
// RecipeError without supervised tokens, Failure where a logit of either is not finite.
Agreement compare_models(const ComputedModel& reference, const ComputedModel& other,
                         const std::vector<Forest>& forests, int64_t threads);

}  // namespace retort
