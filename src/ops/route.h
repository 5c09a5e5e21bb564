// Route and combine: each token goes to a few of many experts, whose results are summed (arXiv:1701.06538).
// Nothing here is of size tokens x experts x width: rows are gathered by expert and added back.
#pragma once
#include <memory>
#include <vector>

#include "ops/device_copies.h"
#include "ops/pass.h"

namespace retort {

struct RouteRule {
  int64_t experts_per_token = 1;  // K
  bool renormalise = true;        // weights of the chosen sum to 1: the softmax over the chosen alone
  // DeepSeek V3 (arXiv:2412.19437, section 2.1.2): scores are sigmoids, not a softmax. An expert is chosen by
  // its score plus its bias, among those of the groups whose two largest (`judged_by`) sum to most; the
  // weight is the score alone. No gradient reaches the bias.
  bool sigmoid = false;
  int64_t groups = 1, groups_per_token = 1;
  int64_t judged_by = 2;  // DeepSeek V2 (arXiv:2405.04434): 1, a group's largest score
  float scale = 1;        // of the weights
  Tensor bias = {};       // fp32 [X], or undefined
  std::shared_ptr<DeviceCopies> copies = std::make_shared<DeviceCopies>();  // of the bias
};

// Lists of a plan on a device that has kernels for them (device_kernels.h), int32; undefined elsewhere.
struct SortedSlots {
  Tensor expert;         // [N,K]
  Tensor order, places;  // [N K]: slots by expert, rising among those of one; where in `order` a slot stands
  Tensor starts;         // [X + 1]: where in `order` each expert's begin
};

// Who computes what. A slot is (token n, choice j), number n K + j; a token's choices stand in rising order
// of expert.
struct RoutePlan {
  int64_t tokens = 0, each = 0;             // N, K
  std::vector<int32_t> expert, place;       // of each slot: its expert, and its row among that expert's
  std::vector<std::vector<int32_t>> slots;  // of each expert, rising
  SortedSlots there;
};

struct Routing {
  Tensor weights;  // fp32 [N,K]: what each choice counts
  std::shared_ptr<const RoutePlan> plan;
};

// logits fp32 [N,X] -> the K of largest probability, the lower number first where two are equal. Saves [N,K],
// or [N,X] where the weights are shares of all experts' probabilities.
Routing route(const Tensor& logits, const RouteRule& rule);

// What one expert gets: at least one row.
struct ExpertRows {
  int64_t expert = 0;
  Tensor x;        // [n,E]
  Tensor weights;  // fp32 [n]
};
// x [N,E] by expert; experts without tokens are left out. Saves nothing but the plan.
std::vector<ExpertRows> rows_by_expert(const Tensor& x, const Routing& routing);
// [N,E]: the sum of each token's rows in `results`, in the order of rows_by_expert(). Saves nothing but the
// plan.
Tensor combine(const std::vector<Tensor>& results, const Routing& routing);

}  // namespace retort
