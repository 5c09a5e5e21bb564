#include "schedule/layers.h"

#include <stdexcept>

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

// Calls work(i) for each pass: chains side by side, the passes of a chain in their order.
void each_pass(const Walk& walk, int64_t count, const std::function<void(int64_t pass)>& work) {
  std::vector<int64_t> begins;  // of each chain; then the end
  if (walk.chains.empty())
    for (int64_t i = 0; i <= count; ++i) begins.push_back(i);
  else begins.push_back(0);
  for (const auto passes : walk.chains) begins.push_back(begins.back() + passes);
  if (begins.back() != count) throw std::logic_error("the chains of a walk are not its passes");
  const auto chains = static_cast<int64_t>(begins.size()) - 1;
  run_workers(walk.how.threads(chains), chains, [&](int64_t chain) {
    const auto at = static_cast<size_t>(chain);
    for (auto i = begins[at]; i < begins[at + 1]; ++i) {
      leave_if_stopped(walk.doing);
      work(i);
    }
  });
}

void through_experts(const Model& model, int64_t index, const SparseMlp& mlp, const std::vector<Pass>& passes,
                     std::vector<Tensor>& states, const Walk& walk) {
  const auto& how = walk.how;
  auto& shelf = walk.shelf;
  const auto count = static_cast<int64_t>(passes.size());
  std::vector<ExpertInput> inputs(passes.size());
  std::vector<Tensor> sums(passes.size());
  each_pass(walk, count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    const auto pass = pass_through(model, index, passes[at]);
    auto half = model.before_experts(index, states[at], pass);
    states[at] = shelf.put(half.residual);
    if (half.normed.size(0) == 0) return;
    inputs[at] = {half.normed, mlp.routing(half.normed, pass)};
    inputs[at].normed = shelf.put(half.normed);
    sums[at] = shelf.zeros(half.normed.sizes(), at::kFloat);
  });
  const SparseLayer layer{model, mlp, passes, inputs};
  each_expert(layer, walk, [&](const ExpertBatch& batch) {
    const auto rows = mlp.forward_expert(batch.rows, batch.pass(layer));
    return [&, rows, texts = batch.texts] {
      int64_t first = 0;
      for (const auto& tokens : texts) {
        auto& sum = sums[static_cast<size_t>(tokens.text)];
        add_rows(sum, rows.narrow(0, first, tokens.size()), tokens);
        shelf.rest(sum);
        first += tokens.size();
      }
    };
  });
  run_workers(how.threads(count), count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    auto left = states[at];
    if (sums[at].defined())
      left = left + mlp.join(sums[at].to(left.scalar_type()), inputs[at].normed, passes[at]);
    if (passes[at].after_layer) passes[at].after_layer(index, left);
    states[at] = walk.kept(i, left);
    sums[at] = Tensor(), inputs[at] = {};
  });
}

}  // namespace

std::vector<const Linear*> read_first(const Model& model, int64_t index) {
  auto linears = model.linears_of(index);
  std::erase_if(linears, [](const Linear* linear) { return linear->place.expert >= 0; });
  return linears;
}

void through_layer(const Model& model, int64_t index, const std::vector<Pass>& passes,
                   std::vector<Tensor>& states, const Walk& walk) {
  if (const auto* mlp = model.experts_of(index))
    return through_experts(model, index, *mlp, passes, states, walk);
  const auto count = static_cast<int64_t>(passes.size());
  each_pass(walk, count, [&](int64_t i) {
    const auto pass = pass_through(model, index, passes[static_cast<size_t>(i)]);
    auto& state = states[static_cast<size_t>(i)];
    const auto left = model.layer(index, state, pass);
    if (pass.after_layer) pass.after_layer(index, left);
    state = walk.kept(i, left);
  });
}

void through_layer(const Model& model, int64_t index, const std::vector<size_t>& which,
                   const std::vector<Pass>& passes, std::vector<Tensor>& states, const Walk& walk) {
  if (which.size() == passes.size()) return through_layer(model, index, passes, states, walk);
  auto some = walk;
  if (walk.keep)
    some.keep = [&](int64_t i, const Tensor& left) {
      return walk.keep(static_cast<int64_t>(which[static_cast<size_t>(i)]), left);
    };
  std::vector<Pass> their_passes;
  std::vector<Tensor> their_states;
  for (const auto i : which) their_passes.push_back(passes[i]), their_states.push_back(states[i]);
  through_layer(model, index, their_passes, their_states, some);
  for (size_t i = 0; i < which.size(); ++i) states[which[i]] = std::move(their_states[i]);
}

std::vector<Tensor> hidden_by_layers(const Model& model, const std::vector<Pass>& passes, const Walk& walk,
                                     PassRecord* record) {
  const auto& how = walk.how;
  const auto count = static_cast<int64_t>(passes.size());
  std::vector<Tensor> states(passes.size());
  std::vector<int64_t> done(passes.size(), -1);  // layers
  if (record && !walk.chains.empty())
    throw std::logic_error("a pass that reads a cache cannot go on in a layer: the cache would be gone");
  if (record) {
    std::vector<int64_t> rows;
    for (const auto& pass : passes) rows.push_back(pass.size());
    record->begin(rows, model.config.hidden, passes[0].compute);
  }
  const auto keep = [&](size_t at, int64_t layers, const Tensor& state) {
    done[at] = layers;
    return record ? record->keep(at, layers, state) : walk.shelf.put(state);
  };
  run_workers(how.threads(count), count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    if (record && record->layers_done(at) >= 0)
      done[at] = record->layers_done(at), states[at] = record->state(at);
    else states[at] = keep(at, 0, model.embed(passes[at]));
  });
  for (int64_t index = 0; index < model.config.layers; ++index) {
    std::vector<size_t> here;  // all of them, unless some had left this layer before
    for (size_t i = 0; i < done.size(); ++i)
      if (done[i] == index) here.push_back(i);
    if (here.empty()) continue;
    auto through = walk;
    through.keep = [&](int64_t i, const Tensor& left) {
      return keep(static_cast<size_t>(i), index + 1, left);
    };
    model.stream()->expect(read_first(model, index + 1));
    through_layer(model, index, here, passes, states, through);
    model.stream()->let_go(model.linears_of(index));
  }
  run_workers(how.threads(count), count, [&](int64_t i) {
    auto& state = states[static_cast<size_t>(i)];
    state = walk.shelf.put(model.finish(state, passes[static_cast<size_t>(i)]));
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
  if (!model.stream()->budget().scratch.empty()) return rows.size();
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
