#include "schedule/backward.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <utility>

#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/head_gradient.h"
#include "ops/workers.h"
#include "schedule/experts.h"

namespace retort {
namespace {

using Tensors = std::vector<Tensor>;

Tensors gradients_of(const Tensor& value, const Tensors& inputs, const Tensor& gradient) {
  return torch::autograd::grad({value}, inputs, gradient.defined() ? Tensors{gradient} : Tensors{},
                               std::nullopt, false, true);
}

// A layer's graph of one text, whose backward comes when all texts have gone through the layers behind it.
// What its operations saved lies on a shelf; the layer's matrices do not.
struct KeptGraph {
  Tensor entered;  // the leaf that it begins with
  Tensor left;     // stands for what left the layer: its place in the graph, without its numbers
  Shelf::Places places;
};

Tensor without_numbers(const Tensor& result) {
  const auto stand_in = at::empty({0}, result.options());
  torch::autograd::impl::set_gradient_edge(stand_in, torch::autograd::impl::gradient_edge(result));
  return stand_in;
}

using Leaves = std::vector<LayerLeaf>;

bool among(const std::vector<Leaves>& layers, const Tensor& leaf) {
  return std::any_of(layers.begin(), layers.end(), [&](const Leaves& leaves) {
    return std::any_of(leaves.begin(), leaves.end(),
                       [&](const LayerLeaf& each) { return each.tensor.is_same(leaf); });
  });
}

// Those of one expert; -1: those of none.
Tensors leaves_of(const Leaves& leaves, int64_t expert) {
  Tensors found;
  for (const auto& [tensor, place] : leaves)
    if (place.expert == expert) found.push_back(tensor);
  return found;
}

// The walk's leaves that stand in no layer, and where they stand in the list.
struct Outside {
  Tensors leaves;
  std::vector<size_t> places;
};

class Walking {
 public:
  Walking(const BackwardWalk& walk, const Abreast& how)
      : walk_(walk),
        model_(walk.model),
        shelf_(walk.model.stream()->budget().scratch),
        how_(how),
        count_(static_cast<int64_t>(walk.passes.size())),
        layer_leaves_(layer_leaves(walk.model)),
        embedding_learns_(!retort::leaves_of(walk.model.embedding).empty()),
        outer_(walk.passes.size(), Tensors(walk.leaves.size())) {
    for (size_t i = 0; i < walk.leaves.size(); ++i)
      if (!among(layer_leaves_, walk.leaves[i]))
        outside_.leaves.push_back(walk.leaves[i]), outside_.places.push_back(i);
    first_ = embedding_learns_ ? 0 : model_.config.layers;
    for (int64_t i = model_.config.layers - 1; i >= 0; --i)
      if (!layer_leaves_[static_cast<size_t>(i)].empty()) first_ = embedding_learns_ ? 0 : i;
    kept_.resize(layer_leaves_.size(), std::vector<KeptGraph>(walk.passes.size()));
  }

  std::vector<Tensors> run() {
    if (walk_.record) begin_record(*walk_.record);
    forward();
    losses();
    auto index = model_.config.layers - 1;
    if (walk_.record && walk_.record->layer_done()) index = go_on(*walk_.record, *walk_.record->layer_done());
    for (; index >= first_; --index) back(index);
    if (embedding_learns_) embeddings();
    return std::move(outer_);
  }

 private:
  void begin_record(WalkRecord& record) const {
    WalkRecord::Sizes sizes{{}, model_.config.hidden, walk_.passes.at(0).compute, {}};
    for (const auto& pass : walk_.passes) sizes.rows.push_back(pass.size());
    for (const auto& leaves : layer_leaves_) {
      auto& numbers = sizes.leaves.emplace_back();
      for (const auto& leaf : leaves) numbers.push_back(leaf.tensor.numel());
    }
    record.begin(std::move(sizes));
  }

  void forward() {
    auto* const record = walk_.record;
    Tensors states(walk_.passes.size());
    std::vector<int64_t> left(walk_.passes.size(), 0);  // layers
    const auto keep = [&](int64_t i, int64_t layers, const Tensor& state) {
      return record ? record->keep(static_cast<size_t>(i), layers, state) : shelf_.put(state);
    };
    run_workers(how_.threads(count_), count_, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      if (record && record->layers_left(at) >= 0) left[at] = record->layers_left(at);
      else states[at] = keep(i, 0, model_.embed(walk_.passes[at]));
    });
    for (int64_t index = 0; index < model_.config.layers; ++index) {
      std::vector<size_t> here;  // all of them, unless some had left this layer before
      for (size_t i = 0; i < left.size(); ++i) {
        if (left[i] <= index) here.push_back(i);
        if (record && record->layers_left(i) >= index) states[i] = record->state(i, index);
      }
      between_.push_back(states);
      if (here.empty()) continue;
      Walk walk{how_, shelf_, walk_.doing};
      walk.keep = [&](int64_t i, const Tensor& state) { return keep(i, index + 1, state); };
      model_.stream()->expect(read_first(model_, index + 1));
      if (keeps_graph(index)) through_kept(index, here, states, walk.keep);
      else through_layer(model_, index, here, walk_.passes, states, walk);
      if (index + 1 < model_.config.layers) model_.stream()->let_go(model_.linears_of(index));
    }
    for (size_t i = 0; record && i < states.size(); ++i) states[i] = record->state(i, model_.config.layers);
    flowing_ = std::move(states);
  }

  bool flows_on(int64_t index) const { return index > first_ || embedding_learns_; }

  // Not of a sparse layer, whose experts each see tokens of many texts.
  bool keeps_graph(int64_t index) const {
    return model_.stream()->budget().keeps_activations && index >= first_ && !model_.experts_of(index);
  }

  // through_layer() with a graph that stays. A walk that goes on where another was killed has none of the
  // layers that were left then, and computes those again.
  void through_kept(int64_t index, const std::vector<size_t>& here, Tensors& states,
                    const std::function<Tensor(int64_t text, const Tensor& left)>& keep) {
    const auto count = static_cast<int64_t>(here.size());
    run_workers(
        how_.threads(count), count,
        [&](int64_t n) {
          leave_if_stopped(walk_.doing);
          const auto at = here[static_cast<size_t>(n)];
          const auto i = static_cast<int64_t>(at);
          auto& kept = kept_[static_cast<size_t>(index)][at];
          kept.entered = states[at].detach();
          if (flows_on(index)) kept.entered.requires_grad_();
          auto pass = through(index, i);
          pass.lets_matrices_go = true;
          Tensor left;
          kept.places = shelf_.hold([&] { left = model_.layer(index, kept.entered, pass); });
          if (pass.after_layer) pass.after_layer(index, left);
          rest(kept.entered);
          states[at] = keep(i, left.detach());
          if (left.requires_grad()) kept.left = without_numbers(left);
        },
        Gradients::on);
  }

  // From the layer in front of the last one that a killed process finished, which is returned.
  int64_t go_on(const WalkRecord& record, int64_t done) {
    for (auto index = model_.config.layers - 1; index >= done; --index) {
      const auto& leaves = layer_leaves_[static_cast<size_t>(index)];
      const auto learned = record.learned(index);
      for (size_t i = 0; i < leaves.size(); ++i) walk_.restore(leaves[i].tensor, learned.gradients[i]);
      if (auto* indexer = model_.index_learned(index); indexer && learned.index_rows > 0)
        indexer->add(learned.index_nats, learned.index_rows);
      between_.pop_back();
    }
    for (size_t i = 0; i < flowing_.size(); ++i) flowing_[i] = record.flow(i);
    return done - 1;
  }

  void finish(WalkRecord& record, int64_t index) {
    for (size_t i = 0; i < flowing_.size(); ++i)
      if (!flowing_[i].defined()) record.keep_flow(i, index, {});
    WalkRecord::Learned learned;
    for (const auto& leaf : layer_leaves_[static_cast<size_t>(index)])
      learned.gradients.push_back(walk_.sum(leaf.tensor));
    if (auto* indexer = model_.index_learned(index)) {
      const auto sum = indexer->take();
      indexer->add(sum.nats, sum.rows);
      learned.index_nats = sum.nats, learned.index_rows = sum.rows;
    }
    record.finish(index, learned);
  }

  // What leaves the last layer becomes the gradient of it.
  void losses() {
    each([&](int64_t i, Tensor& flowing) {
      const auto at = static_cast<size_t>(i);
      const auto left = flowing.detach().requires_grad_();
      const auto nats = walk_.loss(i, model_.finish(left, walk_.passes[at]));
      flowing = Tensor();
      if (!nats.defined() || !nats.requires_grad()) return;
      auto inputs = outside_.leaves;
      inputs.push_back(left);
      auto gradients = gradients_of(nats, inputs, {});
      rest(left);
      flowing = shelf_.put(gradients.back());
      add_outside(at, gradients);
    });
  }

  // The gradient of what leaves a layer becomes that of what enters it.
  void back(int64_t index) {
    if (index > first_) {
      model_.stream()->expect(read_first(model_, index - 1));
      for (const auto& kept : kept_[static_cast<size_t>(index - 1)]) shelf_.expect(kept.places);
    }
    if (const auto* mlp = model_.experts_of(index)) {
      back_through_experts(index, *mlp, flows_on(index));
    } else {
      const auto leaves = leaves_of(layer_leaves_[static_cast<size_t>(index)], -1);
      each([&](int64_t i, Tensor& flowing) {
        auto kept = std::exchange(kept_[static_cast<size_t>(index)][static_cast<size_t>(i)], {});
        if (!flowing.defined()) return;
        if (!kept.left.defined()) kept = graph_again(index, i);
        auto inputs = leaves;
        if (flows_on(index)) inputs.push_back(kept.entered);
        auto gradients = gradients_of(kept.left, inputs, flowing);
        flowing = flow(index, i, flows_on(index) ? gradients.back() : Tensor());
        rest(index, i);
        bring(i, leaves, gradients);
      });
    }
    if (walk_.record) finish(*walk_.record, index);
    between_.pop_back();
    model_.stream()->let_go(model_.linears_of(index));
  }

  KeptGraph graph_again(int64_t index, int64_t i) const {
    auto entered = entering(index, i);
    if (flows_on(index)) entered.requires_grad_();
    auto pass = through(index, i);
    pass.layer_result = Wanted::gradients;
    return {entered, model_.layer(index, entered, pass), {}};
  }

  // Attention and router are computed twice: first for what the experts read, then for the gradients of it.
  void back_through_experts(int64_t index, const SparseMlp& mlp, bool further) {
    const auto& all = layer_leaves_[static_cast<size_t>(index)];
    const auto leaves = leaves_of(all, -1);
    const bool before = further || !leaves.empty();  // anything is learned in front of the experts
    std::vector<ExpertInput> inputs(walk_.passes.size());
    std::vector<Tensor> of_normed(walk_.passes.size()), of_weights(walk_.passes.size());
    each([&](int64_t i, Tensor& flowing) {
      if (!flowing.defined()) return;
      const at::NoGradGuard no_graph;
      const auto at = static_cast<size_t>(i);
      const auto pass = through(index, i);
      const auto half = model_.before_experts(index, entering(index, i), pass);
      rest(index, i);
      if (half.normed.size(0) == 0) return;
      inputs[at] = {half.normed, mlp.routing(half.normed, pass)};
      inputs[at].normed = shelf_.put(half.normed);
      if (!before) return;
      of_normed[at] = shelf_.zeros(half.normed.sizes(), at::kFloat);
      of_weights[at] = at::zeros_like(inputs[at].routing.weights);
    });
    const SparseLayer layer{model_, mlp, walk_.passes, inputs};
    ExpertGradients of_inputs{of_normed, of_weights};
    each_expert(layer, {how_, shelf_, walk_.doing, Gradients::on}, [&](const ExpertBatch& batch) {
      return back_through_expert(index, layer, batch, of_inputs);
    });
    each([&](int64_t i, Tensor& flowing) {
      if (!flowing.defined()) return;
      const auto at = static_cast<size_t>(i);
      if (!before) {
        flowing = Tensor();
        return;
      }
      const auto pass = through(index, i);
      const auto entered = entering(index, i);
      auto wanted = leaves;
      if (further) wanted.push_back(entered.requires_grad_());
      const auto half = model_.before_experts(index, entered, pass);
      Tensors values{half.residual}, flows{flowing};
      if (of_normed[at].defined()) {
        values.push_back(half.normed);
        flows.push_back(of_normed[at].to(half.normed.scalar_type()));
        const auto weights = mlp.routing(half.normed, pass).weights;
        if (weights.requires_grad()) values.push_back(weights), flows.push_back(of_weights[at]);
        // Behind the router, as in forward(): gradients of one input are added from the last use to the
        // first.
        if (mlp.shared_experts)
          values.push_back(mlp.shared_experts->forward(half.normed, pass, Wanted::gradients)),
              flows.push_back(flowing);
      }
      for (size_t v = values.size(); v-- > 0;)
        if (!values[v].requires_grad())
          values.erase(values.begin() + static_cast<std::ptrdiff_t>(v)),
              flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(v));
      Tensors gradients(wanted.size());
      if (!values.empty())
        gradients = torch::autograd::grad(values, wanted, flows, std::nullopt, false, true);
      flowing = flow(index, i, further ? gradients.back() : Tensor());
      rest(index, i);
      bring(i, leaves, gradients);
    });
  }

  // Of what the experts read, for each text.
  struct ExpertGradients {
    std::vector<Tensor>&of_normed, &of_weights;
  };

  // Leaves of an expert are of a batch of one text. What is returned adds to what several experts add to.
  OrderedWork::Later back_through_expert(int64_t index, const SparseLayer& layer, const ExpertBatch& batch,
                                         ExpertGradients& of_inputs) {
    const auto first = batch.texts[0].text;
    const auto leaves = leaves_of(layer_leaves_[static_cast<size_t>(index)], batch.rows.expert);
    const bool before = of_inputs.of_normed[static_cast<size_t>(first)].defined();
    if (leaves.empty() && !before) return {};
    auto wanted = leaves;
    auto part = batch.rows;
    if (before) {
      wanted.push_back(part.x.requires_grad_());
      wanted.push_back(part.weights.requires_grad_());
    }
    const auto result = layer.mlp.forward_expert(part, batch.pass(layer), Wanted::gradients);
    auto gradients = gradients_of(result, wanted, rows_of(flowing_, batch));
    for (const auto& tokens : batch.texts) rest(flowing_[static_cast<size_t>(tokens.text)]);
    bring(first, leaves, gradients);
    if (!before) return {};
    return [this, &of_inputs, texts = batch.texts, of_x = gradients[leaves.size()],
            of_weight = gradients[leaves.size() + 1]] {
      int64_t row = 0;
      for (const auto& tokens : texts) {
        const auto at = static_cast<size_t>(tokens.text);
        if (of_x.defined()) {
          add_rows(of_inputs.of_normed[at], of_x.narrow(0, row, tokens.size()), tokens);
          shelf_.rest(of_inputs.of_normed[at]);
        }
        if (of_weight.defined()) {
          auto* out = of_inputs.of_weights[at].mutable_data_ptr<float>();
          const auto* in = of_weight.const_data_ptr<float>() + row;
          for (const auto slot : tokens.slots) out[slot] = *in++;
        }
        row += tokens.size();
      }
    };
  }

  Pass through(int64_t index, int64_t i) const {
    return pass_through(model_, index, walk_.passes[static_cast<size_t>(i)]);
  }
  Tensor entering(int64_t index, int64_t i) const {
    return between_[static_cast<size_t>(index)][static_cast<size_t>(i)].detach();
  }
  void rest(int64_t index, int64_t i) const {
    rest(between_[static_cast<size_t>(index)][static_cast<size_t>(i)]);
  }
  void rest(const Tensor& value) const {
    shelf_.rest(value);
    if (walk_.record) walk_.record->rest(value);
  }
  // What leaves a layer backwards.
  Tensor flow(int64_t index, int64_t i, const Tensor& gradient) {
    return walk_.record ? walk_.record->keep_flow(static_cast<size_t>(i), index, gradient)
                        : shelf_.put(gradient);
  }
  void bring(int64_t i, const Tensors& leaves, Tensors& gradients) {
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf)
      if (gradients[leaf].defined()) walk_.bring(i, leaves[leaf], std::move(gradients[leaf]));
  }

  void embeddings() {
    each([&](int64_t i, Tensor& flowing) {
      if (!flowing.defined()) return;
      const auto at = static_cast<size_t>(i);
      add_outside(at, gradients_of(model_.embed(walk_.passes[at]), outside_.leaves, flowing));
    });
  }

  void add_outside(size_t text, const Tensors& gradients) {
    for (size_t i = 0; i < outside_.places.size(); ++i) {
      if (!gradients[i].defined()) continue;
      auto& sum = outer_[text][outside_.places[i]];
      sum = sum.defined() ? sum + gradients[i] : gradients[i];
    }
  }

  void each(const std::function<void(int64_t text, Tensor& flowing)>& work) {
    run_workers(
        how_.threads(count_), count_,
        [&](int64_t i) {
          leave_if_stopped(walk_.doing);
          work(i, flowing_[static_cast<size_t>(i)]);
        },
        Gradients::on);
  }

  const BackwardWalk& walk_;
  const Model& model_;
  Shelf shelf_;
  const Abreast how_;
  const int64_t count_;
  const std::vector<Leaves> layer_leaves_;
  const bool embedding_learns_;
  std::vector<Tensors> outer_;
  Outside outside_;
  int64_t first_ = 0;                         // the first layer that something is learned in or in front of
  std::vector<Tensors> between_;              // what enters each layer, for each text
  std::vector<std::vector<KeptGraph>> kept_;  // of each layer, for each text
  Tensors flowing_;
};

}  // namespace

std::vector<Tensors> backward_by_layers(const BackwardWalk& walk, const Abreast& how) {
  return Walking(walk, how).run();
}

}  // namespace retort
