#include "schedule/layers.h"

#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/workers.h"
#include "schedule/experts.h"

namespace retort {

Abreast abreast(int64_t threads, int64_t passes) {
  const auto workers = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, passes));
  return {workers, std::max<int64_t>(1, threads / workers)};
}

Pass pass_through(const Model& model, int64_t index, const Pass& pass) {
  auto through = pass;
  if (index + 1 < model.config.layers) through.rows = Tensor();
  return through;
}

namespace {

void through_experts(const Model& model, int64_t index, const SparseMlp& mlp, const std::vector<Pass>& passes,
                     std::vector<Tensor>& states, const Abreast& how, std::string_view doing) {
  const auto count = static_cast<int64_t>(passes.size());
  std::vector<ExpertInput> inputs(passes.size());
  std::vector<Tensor> sums(passes.size());
  run_workers(how.threads(count), count, [&](int64_t i) {
    leave_if_stopped(doing);
    const auto at = static_cast<size_t>(i);
    const auto pass = pass_through(model, index, passes[at]);
    auto half = model.before_experts(index, states[at], pass);
    states[at] = std::move(half.residual);
    if (half.normed.size(0) == 0) return;
    inputs[at] = {half.normed, mlp.routing(half.normed, pass)};
    sums[at] = at::zeros(half.normed.sizes(), at::TensorOptions(at::kFloat));
  });
  each_expert(model, mlp, inputs, how, Gradients::off, doing, [&](int64_t i, const ExpertRows& part) {
    const auto at = static_cast<size_t>(i);
    const auto rows = mlp.forward_expert(part, passes[at]);
    add_rows(sums[at], rows, *inputs[at].routing.plan, part.expert);
  });
  run_workers(how.threads(count), count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    if (sums[at].defined())
      states[at] =
          states[at] + mlp.join(sums[at].to(states[at].scalar_type()), inputs[at].normed, passes[at]);
    if (passes[at].after_layer) passes[at].after_layer(index, states[at]);
  });
}

}  // namespace

std::vector<const Linear*> read_first(const Model& model, int64_t index) {
  auto linears = model.linears_of(index);
  std::erase_if(linears, [](const Linear* linear) { return linear->place.expert >= 0; });
  return linears;
}

void through_layer(const Model& model, int64_t index, const std::vector<Pass>& passes,
                   std::vector<Tensor>& states, const Abreast& how, std::string_view doing) {
  if (const auto* mlp = model.experts_of(index))
    return through_experts(model, index, *mlp, passes, states, how, doing);
  const auto count = static_cast<int64_t>(passes.size());
  run_workers(how.threads(count), count, [&](int64_t i) {
    leave_if_stopped(doing);
    const auto pass = pass_through(model, index, passes[static_cast<size_t>(i)]);
    auto& state = states[static_cast<size_t>(i)];
    state = model.layer(index, state, pass);
    if (pass.after_layer) pass.after_layer(index, state);
  });
}

std::vector<Tensor> hidden_by_layers(const Model& model, const std::vector<Pass>& passes, const Abreast& how,
                                     std::string_view doing) {
  const auto count = static_cast<int64_t>(passes.size());
  std::vector<Tensor> states(passes.size());
  run_workers(how.threads(count), count, [&](int64_t i) {
    states[static_cast<size_t>(i)] = model.embed(passes[static_cast<size_t>(i)]);
  });
  for (int64_t index = 0; index < model.config.layers; ++index) {
    model.stream()->expect(read_first(model, index + 1));
    through_layer(model, index, passes, states, how, doing);
    model.stream()->let_go(model.linears_of(index));
  }
  run_workers(how.threads(count), count, [&](int64_t i) {
    auto& state = states[static_cast<size_t>(i)];
    state = model.finish(state, passes[static_cast<size_t>(i)]);
  });
  return states;
}

double state_bytes_at_work(const Model& model, at::ScalarType compute) {
  bool sparse = false;
  for (int64_t i = 0; i < model.config.layers; ++i) sparse = sparse || model.experts_of(i);
  const auto element = static_cast<double>(c10::elementSize(compute));
  return static_cast<double>(model.config.hidden) * (sparse ? 4 * element + 8 : 2 * element);
}

size_t passes_that_fit(const Model& model, const std::vector<int64_t>& rows, size_t first,
                       at::ScalarType compute, double times) {
  const auto row = static_cast<double>(model.config.hidden) * static_cast<double>(c10::elementSize(compute));
  const auto at_work = state_bytes_at_work(model, compute);
  double bytes = 0;
  auto end = first;
  for (; end < rows.size(); ++end) {
    bytes += (times * row + at_work) * static_cast<double>(rows[end]);
    if (end > first && bytes > static_cast<double>(model.stream()->budget().states)) break;
  }
  return end;
}

}  // namespace retort
