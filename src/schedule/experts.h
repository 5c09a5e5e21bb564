// A sparse layer, expert by expert: all texts' tokens of an expert go through it before the next is read, so
// that one expert at a time is in memory. Sums over a token's experts run in the order and the precision of
// combine() and rows_by_expert().
#pragma once
#include <functional>
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

// Calls work(text, part) for each expert and each text that has tokens of it, texts side by side, experts one
// after the other. `part` has copies of the rows and the weights.
void each_expert(const Model& model, const SparseMlp& mlp, const std::vector<ExpertInput>& inputs,
                 const Walk& walk, const std::function<void(int64_t text, const ExpertRows& part)>& work);

// Adds rows of one expert [n,E] to its tokens' fp32 sums [N,E].
void add_rows(Tensor& sums, const Tensor& rows, const RoutePlan& plan, int64_t expert);
// The rows of [N,E] that an expert has: [n,E].
Tensor rows_of(const Tensor& x, const RoutePlan& plan, int64_t expert);

}  // namespace retort
