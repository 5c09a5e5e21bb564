#include "schedule/experts.h"

#include <algorithm>

#include "base/stop.h"
#include "models/layer_stream.h"

namespace retort {
namespace {

const std::vector<int32_t>& slots_of(const RoutePlan& plan, int64_t expert) {
  return plan.slots[static_cast<size_t>(expert)];
}

Tensor index_of(const std::vector<int32_t>& slots, int64_t divisor) {
  auto index = at::empty({static_cast<int64_t>(slots.size())}, at::TensorOptions(at::kLong));
  auto* out = index.mutable_data_ptr<int64_t>();
  for (const auto slot : slots) *out++ = slot / divisor;
  return index;
}

}  // namespace

Tensor rows_of(const Tensor& x, const RoutePlan& plan, int64_t expert) {
  return x.index_select(0, index_of(slots_of(plan, expert), plan.each));
}

void add_rows(Tensor& sums, const Tensor& rows, const RoutePlan& plan, int64_t expert) {
  sums.index_add_(0, index_of(slots_of(plan, expert), plan.each), rows.to(at::kFloat));
}

void each_expert(const Model& model, const SparseMlp& mlp, const std::vector<ExpertInput>& inputs,
                 const Walk& walk, const std::function<void(int64_t text, const ExpertRows& part)>& work) {
  std::vector<std::vector<int64_t>> texts(mlp.experts.size());  // that have tokens of each expert
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t e = 0; e < texts.size(); ++e)
      if (inputs[i].routing.plan && !inputs[i].routing.plan->slots[e].empty())
        texts[e].push_back(static_cast<int64_t>(i));
  std::vector<const Linear*> next;
  for (size_t e = 0; e < texts.size(); ++e)
    if (!texts[e].empty())
      for (const auto* linear : mlp.linears_of(static_cast<int64_t>(e))) next.push_back(linear);
  auto* stream = model.stream();
  stream->expect(next);
  for (size_t e = 0; e < texts.size(); ++e) {
    const auto expert = static_cast<int64_t>(e), count = static_cast<int64_t>(texts[e].size());
    run_workers(
        walk.how.threads(count), count,
        [&](int64_t i) {
          leave_if_stopped(walk.doing);
          const auto text = texts[e][static_cast<size_t>(i)];
          const auto& [normed, routing] = inputs[static_cast<size_t>(text)];
          const auto& plan = *routing.plan;
          const at::NoGradGuard no_graph;
          const auto slots = index_of(slots_of(plan, expert), 1);
          const ExpertRows part{expert, rows_of(normed, plan, expert),
                                routing.weights.detach().reshape(-1).index_select(0, slots)};
          walk.shelf.rest(normed);
          const at::AutoGradMode mode(walk.gradients == Gradients::on);
          work(text, part);
        },
        walk.gradients);
    stream->let_go(mlp.linears_of(expert));
  }
}

}  // namespace retort
