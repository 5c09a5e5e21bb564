#include "models/model.h"

#include "models/layers.h"
#include "ops/embed.h"
#include "ops/recompute.h"

namespace retort {
namespace {

// The trainables inside each layer: what its recomputation must be differentiable in.
std::vector<std::vector<Tensor>> layer_leaves(Model& model) {
  std::vector<std::vector<Tensor>> leaves(static_cast<size_t>(model.config.layers));
  const auto take = [&](const std::string& name, const Tensor& leaf) {
    constexpr std::string_view prefix = "model.layers.";
    if (!leaf.defined() || !leaf.requires_grad() || !name.starts_with(prefix)) return;
    leaves.at(std::stoul(name.substr(prefix.size()))).push_back(leaf);
  };
  for (const auto* linear : model.linears()) {
    take(linear->name, linear->weight.dense);
    if (!linear->adapter) continue;
    take(linear->name, linear->adapter->a);
    take(linear->name, linear->adapter->b);
    take(linear->name, linear->adapter->magnitude);
  }
  for (const auto& [name, tensor] : model.vectors()) take(name, *tensor);  // norms and biases
  return leaves;
}

}  // namespace

Tensor Model::embed(const Pass& pass) const { return retort::embed(embedding, pass, config.embedding_scale); }

Tensor Model::hidden(const Pass& pass) const {
  auto x = embed(pass);
  auto whole = pass;
  whole.rows = Tensor();  // attention needs all rows of all layers; what follows it in the last one does not
  const bool again = pass.recompute && at::GradMode::is_enabled();
  const auto leaves = again ? layer_leaves(const_cast<Model&>(*this))
                            : std::vector<std::vector<Tensor>>();  // lists members, changes nothing
  for (int64_t i = 0; i < config.layers; ++i) {
    // The last layer's backward comes first, while what it kept is still there: computing it again would save
    // nothing.
    const bool last = i + 1 == config.layers;
    if (again && !last)
      x = recompute(x, leaves[static_cast<size_t>(i)],
                    [this, i, whole](const Tensor& h) { return layer(i, h, whole); });
    else x = layer(i, x, last ? pass : whole);
    if (pass.after_layer) pass.after_layer(i, x);
  }
  return finish(x, pass);
}

}  // namespace retort
