// A sparse layer, expert by expert: all texts' tokens of an expert go through it before the next is read, so
// that one expert at a time is in memory. Sums over a token's experts run in the order and the precision of
// combine() and rows_by_expert().
#pragma once
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "models/experts.h"
#include "ops/workers.h"
#include "schedule/layers.h"

namespace retort {

// What the experts read of one text, and who reads which rows.
struct ExpertInput {
  Tensor normed;  // [N,E], without a graph
  Routing routing;
};

struct SparseLayer {
  const Model& model;
  const SparseMlp& mlp;
  const std::vector<Pass>& passes;
  const std::vector<ExpertInput>& inputs;  // of each pass
};

// Some tokens of one text that an expert has: slots of the text's RoutePlan.
struct ExpertTokens {
  int64_t text = 0, each = 1;  // each: choices of a token
  std::span<const int32_t> slots;

  int64_t size() const { return static_cast<int64_t>(slots.size()); }
};
// What an expert computes in one product: tokens of one text, or of several one behind the other.
struct ExpertBatch {
  ExpertRows rows;  // copies of the rows and the weights
  std::vector<ExpertTokens> texts;

  const Pass& pass(const SparseLayer& layer) const {
    return layer.passes[static_cast<size_t>(texts[0].text)];
  }
};

// Calls work(batch) for each expert that has tokens, batches side by side, experts one after the other. An
// expert without adapters gets the tokens of several texts together, where that gives the same bits: a
// product decodes the expert's matrices once for all of them, and threads have equal shares. An expert that
// learns, or that somebody observes, gets each text's alone, all at once.
void each_expert(const SparseLayer& layer, const Walk& walk,
                 const std::function<void(const ExpertBatch& batch)>& work);

// Adds rows of one expert [n,E] to its tokens' fp32 sums [N,E].
void add_rows(Tensor& sums, const Tensor& rows, const ExpertTokens& tokens);
// The rows [n,E] that a batch has of all texts' [N,E].
Tensor rows_of(const std::vector<Tensor>& of_texts, const ExpertBatch& batch);

}  // namespace retort
