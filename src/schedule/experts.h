// A sparse layer, expert by expert: all texts' tokens of an expert go through it in one reading, and no more
// experts are in memory than are at work and read ahead. Sums over a token's experts run in the order and the
// precision of combine() and rows_by_expert().
#pragma once
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ordered_work.h"
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

// Into how many batches of nearly equal size so many rows of an expert are cut.
int64_t pieces_of_expert(int64_t rows);

// Calls work(batch) for each expert that has tokens, batches side by side, begun in the order of the experts.
// What work() returns is done by one thread in that order, without a graph. An expert without adapters gets
// the tokens of several texts together, where that gives the same bits: a product decodes the expert's
// matrices once for all of them. An expert that learns, or that somebody observes, gets each text's alone.
void each_expert(const SparseLayer& layer, const Walk& walk,
                 const std::function<OrderedWork::Later(const ExpertBatch& batch)>& work);

// Adds rows of one expert [n,E] to its tokens' fp32 sums [N,E].
void add_rows(Tensor& sums, const Tensor& rows, const ExpertTokens& tokens);
// The rows [n,E] that a batch has of all texts' [N,E].
Tensor rows_of(const std::vector<Tensor>& of_texts, const ExpertBatch& batch);

}  // namespace retort
