// How an operation joins LibTorch's autograd: it computes its value without a graph and hands over one
// function for its backward. What that function captures is all that the operation saves.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <stdexcept>
#include <utility>

#include "base/half.h"
#include "base/profile.h"
#include "ops/team.h"

namespace retort {

using at::Tensor;
using Tensors = torch::autograd::variable_list;

// Gradient of the result -> gradients of the inputs, in the inputs' order; undefined where none is wanted.
// Runs with gradient mode off and at most once: what it captured is freed right after.
using Backward = std::function<Tensors(const Tensor& gradient)>;

// What a profile calls an operation, and the arithmetic and memory traffic of each direction, without those
// of operations inside it.
struct OperationWork {
  const char* name;
  double flop = 0, bytes = 0, backward_flop = 0, backward_bytes = 0;

  Work forward() const { return {name, "forward", flop, bytes, team_size()}; }
  Work backward() const { return {name, "backward", backward_flop, backward_bytes, team_size()}; }
};

struct Computed {
  Tensor value;
  Backward backward;
};
// The same for an operation with several results: gradients of the results, in order, undefined where nobody
// asked.
using ManyBackward = std::function<Tensors(const Tensors& gradients)>;
struct ManyComputed {
  Tensors values;
  ManyBackward backward;
};

class BackwardNode final : public torch::autograd::Node {
 public:
  BackwardNode(torch::autograd::edge_list&& next, const OperationWork& work, ManyBackward backward)
      : Node(std::move(next)), work_(work), backward_(std::move(backward)) {}
  Tensors apply(Tensors&& gradients) override {
    if (at::GradMode::is_enabled()) throw std::logic_error("operations have no second derivative");
    bool any = false;
    for (auto& gradient : gradients)
      if (gradient.defined()) any = true, gradient = gradient.contiguous();
    if (!any) return Tensors(num_outputs());
    if (!backward_) throw std::logic_error("a graph was walked twice");
    const Span span(work_.backward());
    return backward_(gradients);
  }
  void release_variables() override { backward_ = nullptr; }

 private:
  OperationWork work_;
  ManyBackward backward_;
};

// Results of `computed` become nodes of the graph behind `inputs`.
inline void join_graph(const OperationWork& work, const Tensors& inputs, ManyComputed& computed) {
  const c10::intrusive_ptr<torch::autograd::Node> node = c10::make_intrusive<BackwardNode>(
      torch::autograd::collect_next_edges(inputs), work, std::move(computed.backward));
  for (const auto& value : computed.values) {
    const auto index = node->add_input_metadata(value);
    torch::autograd::impl::set_gradient_edge(value, torch::autograd::Edge(node, index));
  }
}

inline bool any_wants_gradient(const Tensors& inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto& input : inputs)
    if (input.defined() && input.requires_grad()) return true;
  return false;
}

// `forward(recorded)` returns ManyComputed; recorded says whether any input wants a gradient (then `backward`
// must be set).
template <class Forward>
Tensors differentiable_many(const OperationWork& work, const Tensors& inputs, Forward&& forward) {
  const bool recorded = any_wants_gradient(inputs);
  ManyComputed computed;
  {
    const Span span(work.forward());
    const at::NoGradGuard no_graph;
    computed = forward(recorded);
  }
  if (recorded) join_graph(work, inputs, computed);
  return computed.values;
}

// The same for one result.
template <class Forward>
Tensor differentiable(const OperationWork& work, const Tensors& inputs, Forward&& forward) {
  return differentiable_many(work, inputs, [&](bool recorded) -> ManyComputed {
    Computed computed = forward(recorded);
    return {{computed.value}, [backward = std::move(computed.backward)](const Tensors& gradients) {
              return backward(gradients[0]);
            }};
  })[0];
}

inline double bytes_of(const Tensor& tensor) {
  return tensor.defined() ? static_cast<double>(tensor.nbytes()) : 0.0;
}

// Calls with(pointer type) for the two types that activations have: bf16 tensors are seen as uint16_t.
template <class With> decltype(auto) with_element(at::ScalarType type, With&& with) {
  if (type == at::kFloat) return with(float{});
  if (type == at::kBFloat16) return with(uint16_t{});
  throw std::logic_error("activations are fp32 or bf16");
}
template <class Element> const Element* elements(const Tensor& tensor) {
  return static_cast<const Element*>(tensor.const_data_ptr());
}
inline float widened(float x) { return x; }
inline float widened(uint16_t x) { return bf16_to_float(x); }
inline void narrow_into(float& out, float x) { out = x; }
inline void narrow_into(uint16_t& out, float x) { out = float_to_bf16(x); }
template <class Element> Element* mutable_elements(Tensor& tensor) {
  return static_cast<Element*>(tensor.mutable_data_ptr());
}

}  // namespace retort
