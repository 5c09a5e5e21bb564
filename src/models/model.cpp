#include "models/model.h"

#include <fmt/format.h>

#include <stdexcept>

#include "base/error.h"
#include "models/layer_stream.h"
#include "models/tensor_names.h"
#include "ops/embed.h"
#include "ops/recompute.h"

namespace retort {

std::vector<std::vector<LayerLeaf>> layer_leaves(const Model& model) {
  std::vector<std::vector<LayerLeaf>> leaves(static_cast<size_t>(model.config.layers));
  const auto take = [&](const TensorPlace& place, const Tensor& leaf) {
    if (!leaf.defined() || !leaf.requires_grad() || place.layer < 0) return;
    if (place.layer >= model.config.layers) return;  // computed with the loss, as the head is
    leaves.at(static_cast<size_t>(place.layer)).push_back({leaf, place});
  };
  for (const auto* linear : model.linears()) {
    take(linear->place, linear->weight.dense);
    if (!linear->adapter) continue;
    take(linear->place, linear->adapter->a);
    take(linear->place, linear->adapter->b);
    take(linear->place, linear->adapter->magnitude);
  }
  for (const auto& [name, tensor, place] : model.vectors()) take(place, *tensor);  // norms and biases
  return leaves;
}

const SparseMlp* Model::experts_of(int64_t) const { return nullptr; }

IndexLearned* Model::index_learned(int64_t) const { return nullptr; }
Model::Halfway Model::before_experts(int64_t layer, const Tensor&, const Pass&) const {
  throw std::logic_error(fmt::format("layer {} is not sparse", layer));
}

Tensor Model::mtp_states(const Tensor&, const Pass&) const {
  throw std::logic_error("the model has no layer that predicts the token after the next");
}

void Model::read_layers_from(std::shared_ptr<LayerStream> stream) {
  stream_ = std::move(stream);
  for (auto* linear : linears_)
    if (!linear->weight.present()) linear->source = stream_;
}

void Model::compute_on(at::Device where) {
  if (stream_ && !where.is_cpu())
    throw RecipeError(fmt::format(
        "device: {} computes models whose weights are in memory, and this one is read layer by layer; set "
        "model.schedule (of a teacher, teacher.schedule) to tokens, or device to cpu",
        where.str()));
  device_ = where;
}

std::vector<const Linear*> Model::linears_of(int64_t layer) const {
  std::vector<const Linear*> found;
  for (const auto* linear : linears_)
    if (linear->place.layer == layer) found.push_back(linear);
  return found;
}

CacheShape cache_shape(const ModelConfig& config) {
  if (config.latent)  // what all heads are made from, and the key that they share
    return {config.layers, 1, config.latent->kv_rank + config.latent->rope_dim, 0,
            config.indexer ? config.indexer->head_dim : 0};
  return {config.layers, config.kv_heads, config.head_dim, config.head_dim};
}

std::string beyond_context_is(const ModelConfig& config) {
  return config.rotates_dynamically()
             ? "this model's rotation is that of the longest text met so far (rope_type: dynamic)"
             : "";
}

std::vector<Linear*> Model::matrices() {
  std::vector<Linear*> all{&embedding};
  all.insert(all.end(), linears_.begin(), linears_.end());
  all.push_back(&head.linear);
  return all;
}

std::vector<const Linear*> Model::matrices() const {
  std::vector<const Linear*> all{&embedding};
  all.insert(all.end(), linears_.begin(), linears_.end());
  all.push_back(&head.linear);
  return all;
}

std::vector<NamedTensor> Model::vectors() {
  std::vector<NamedTensor> there;
  for (const auto& each : vectors_)
    if (each.tensor->defined()) there.push_back(each);
  return there;
}

std::vector<Named<const Tensor>> Model::vectors() const {
  std::vector<Named<const Tensor>> there;
  for (const auto& [name, tensor, place] : vectors_)
    if (tensor->defined()) there.push_back({name, tensor, place});
  return there;
}

void Model::take_place(const TensorPlace& place) {
  const auto name = tensor_name(config, place);  // refuses one without a role
  if (place.layer >= config.layers + config.mtp_layers || place.expert >= config.experts ||
      place.layer < -1 || place.expert < -1)
    throw std::logic_error(
        fmt::format("{}: the model has {} layers of {} experts", name, config.layers, config.experts));
  if (!places_.insert(place).second) throw std::logic_error(name + ": two tensors have this place");
}

void Model::list(Linear& linear) {
  take_place(linear.place);
  linears_.push_back(&linear);
  auto bias = linear.place;
  bias.bias = true;
  vectors_.push_back({tensor_name(config, bias), &linear.bias, bias});
}

void Model::list(Norm& norm) {
  take_place(norm.place);
  vectors_.push_back({tensor_name(config, norm.place), &norm.weight, norm.place});
}

void Model::list_router(Linear& router) {
  take_place(router.place);
  vectors_.push_back({tensor_name(config, router.place), &router.weight.dense, router.place});
}

void Model::list(const TensorPlace& place, Tensor& vector) {
  take_place(place);
  vectors_.push_back({tensor_name(config, place), &vector, place});
}

Tensor Model::embed(const Pass& pass) const { return retort::embed(embedding, pass, config.embedding_scale); }

Tensor Model::hidden(const Pass& pass) const {
  auto x = embed(pass);
  auto whole = pass;
  whole.rows = Tensor();  // attention needs all rows of all layers; what follows it in the last one does not
  const bool again = pass.recompute && at::GradMode::is_enabled();
  std::vector<std::vector<Tensor>> leaves(static_cast<size_t>(config.layers));
  if (again) {
    const auto found = layer_leaves(*this);
    for (size_t i = 0; i < found.size(); ++i)
      for (const auto& [tensor, place] : found[i]) leaves[i].push_back(tensor);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    if (stream_) stream_->expect(linears_of(i + 1));
    // The last layer's backward comes first, while what it kept is still there: computing it again would save
    // nothing.
    const bool last = i + 1 == config.layers;
    if (again && !last)
      x = recompute(x, leaves[static_cast<size_t>(i)], [this, i, whole](const Tensor& h, Wanted wanted) {
        auto through = whole;
        through.layer_result = wanted;
        return layer(i, h, through);
      });
    else x = layer(i, x, last ? pass : whole);
    if (pass.after_layer) pass.after_layer(i, x);
  }
  return finish(x, pass);
}

}  // namespace retort
