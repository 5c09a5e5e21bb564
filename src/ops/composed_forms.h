// The composed forms (ops/composed.h), which their operations call; what each computes stands where the
// operation is declared.
#pragma once
#include "ops/attend.h"
#include "ops/attend_chosen.h"
#include "ops/gated.h"
#include "ops/head.h"
#include "ops/head_gradient.h"
#include "ops/head_rows.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rotate.h"
#include "ops/route.h"

namespace retort {

// composed_rows.cpp
Tensor composed_rms_norm(const Tensor& x, const Norm& norm);
NormedSum composed_add_rms_norm(const Tensor& x, const Tensor& delta, const Norm& norm);
Tensor composed_rotate(const Tensor& x, const Tensor& positions, const RotaryTable& table,
                       const RotatedPart& part);
Tensor composed_gated(const Tensor& gate, const Tensor& up, Activation activation);
Tensor composed_weighted_gated(const Tensor& gate, const Tensor& up, const Tensor& weights,
                               Activation activation);

// composed_linear.cpp: y; x W^T in fp32, and its way back dy W in dy's type, without a graph.
Tensor composed_linear(const Tensor& x, const Linear& layer, const Pass& pass, Wanted wanted);
Tensor composed_logits(const Tensor& x, const Weight& weight);
Tensor composed_product_back(const Tensor& dy, const Weight& weight);

// composed_attend.cpp
Tensor composed_attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttendRule& rule,
                       const Pass& pass);
void composed_store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache,
                             Tensor& scales);

// composed_chosen.cpp
std::shared_ptr<const ChosenKeys> composed_choose_keys(const Tensor& q, const Tensor& k,
                                                       const Tensor& weights, int64_t top, int64_t layer,
                                                       const Pass& pass);
Tensor composed_attend_chosen(const Tensor& q, const Tensor& k, const Tensor& v, int64_t value_width,
                              const std::shared_ptr<const ChosenKeys>& chosen, const AttendRule& rule,
                              const Pass& pass);

// composed_route.cpp; the first fills plan.expert.
Tensor composed_route(const Tensor& logits, const RouteRule& rule, RoutePlan& plan);
// Row n of x to every expert of token n, one tensor an expert that has tokens; and the way back: each
// token's rows, added in fp32, where a part may be undefined: zero.
std::vector<Tensor> composed_scatter_rows(const Tensor& x, const RoutePlan& plan);
Tensor composed_gather_sum(const std::vector<Tensor>& parts, const RoutePlan& plan, int64_t width,
                           const at::TensorOptions& options);
std::vector<Tensor> composed_scatter_weights(const Tensor& weights, const RoutePlan& plan);
Tensor composed_gather_weights(const std::vector<Tensor>& parts, const RoutePlan& plan,
                               const at::TensorOptions& options);

// composed_head.cpp: the logits of asked rows, a chunk at a time, go to `cost`, which returns nats and, where
// they are recorded, leaves the gradient of the logits in their place (fp32, after the soft cap).
using ChunkCost = std::function<double(size_t first, Tensor& logits, bool recorded)>;
HeadCost composed_head_cost(const Tensor& hidden, const std::vector<int64_t>& rows, const Head& head,
                            const Pass& pass, bool recorded, const ChunkCost& cost);
// Labels of a chunk's rows, their weights, and which targets they are.
struct RowLabels {
  std::vector<int64_t> row, label, target;
  std::vector<float> weight;
};
// sum_i w_i (log_sum - z_label), and its gradient.
double composed_cross_entropy(Tensor& logits, const RowLabels& labels, bool recorded);
// The same of a function of the logits.
double composed_logit_cost(Tensor& logits, std::span<const int32_t> rows, size_t first, int64_t vocabulary,
                           const LogitLoss& loss, bool recorded);
// The same of a function of log q at a row's ids; ids of logits' rows are those from rows.offsets[first] on.
double composed_id_cost(Tensor& logits, const IdRows& rows, size_t first, int64_t vocabulary,
                        const IdRowLoss& loss, bool recorded);

}  // namespace retort
