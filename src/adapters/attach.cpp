#include "adapters/attach.h"

#include <set>
#include <stdexcept>

#include "base/error.h"
#include "base/random.h"
#include "models/tensor_names.h"

namespace retort {
namespace {

constexpr int64_t kRowsAtOnce = 1024;  // of a weight widened to fp32: 2 MB at width 576, 32 MB at 8192

Tensor leaf(const Tensor& value) {
  return value.detach().to(at::kFloat, false, true).contiguous().requires_grad_(true);
}

void train_whole(Weight& weight) { weight = dense_weight(leaf(widen(weight, at::kFloat))); }
void train_whole(Linear& layer) {
  layer.weight = dense_weight(leaf(widen(base_matrix(layer).weight, at::kFloat)));
  layer.source = nullptr;
}

Tensor kaiming_uniform(int64_t rank, int64_t in, uint64_t seed, const std::string& layer) {
  auto a = at::empty({rank, in}, at::kFloat);
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  const Draws draws(seed, "lora_A " + layer);
  float* values = a.mutable_data_ptr<float>();
  for (int64_t i = 0; i < rank * in; ++i)
    values[i] = static_cast<float>((2 * draws.uniform(static_cast<uint64_t>(i)) - 1) * bound);
  return a;
}

LowRank low_rank(const Linear& layer, const AdapterSpec& spec, uint64_t seed) {
  LowRank adapter;
  adapter.a = kaiming_uniform(spec.rank, layer.weight.columns, seed, layer.name).requires_grad_(true);
  adapter.b = at::zeros({layer.weight.rows, spec.rank}, at::kFloat).requires_grad_(true);
  if (spec.kind == "dora") adapter.magnitude = row_norms(base_matrix(layer).weight).requires_grad_(true);
  adapter.scaling = spec.scaling();
  adapter.dropout = spec.dropout;
  return adapter;
}

void attach_low_rank(Model& model, const AdapterSpec& spec, uint64_t seed) {
  for (auto* layer : model.linears()) {
    const bool wanted = is_target(model.config, *layer, spec.targets);
    const bool whole = std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                                   [&](const auto& name) { return names_module(layer->name, name); });
    if (wanted && !whole) layer->adapter = low_rank(*layer, spec, seed);
  }
}

// The head and the embedding get matrices of their own, so that one may be trained without the other.
void untie(Model& model) {
  if (!model.config.tied_head) return;
  model.config.tied_head = false;
  model.head.linear.name = "lm_head";
}

}  // namespace

bool names_module(const std::string& layer, const std::string& target) {
  return layer == target || (layer.size() > target.size() && layer.ends_with(target) &&
                             layer[layer.size() - target.size() - 1] == '.');
}

bool is_target(const ModelConfig& config, const Linear& layer, const std::vector<std::string>& targets) {
  const auto role = layer.place.role;
  if (chooses_only(role)) return false;
  // What is tuned of a DeepSeek by habit: adapters of all its experts would be 6.6 G numbers at rank 16.
  const bool usual = !config.latent || role == Role::q || role == Role::q_a || role == Role::q_b ||
                     role == Role::kv_a || role == Role::kv_b || role == Role::o;
  return std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
    return target == "all" || (target == "auto" && usual) || names_module(layer.name, target);
  });
}

void train_module_whole(Model& model, const std::string& name) {
  if (names_module("lm_head", name) || names_module("model.embed_tokens", name)) {
    untie(model);
    train_whole(names_module("lm_head", name) ? model.head.linear.weight : model.embedding);
    return;
  }
  bool found = false;
  for (auto* layer : model.linears())
    if (names_module(layer->name, name)) {
      found = true;
      train_whole(*layer);
      if (layer->bias.defined()) layer->bias = leaf(layer->bias);
    }
  for (auto& vector : model.vectors())
    if (names_module(vector.name, name) || names_module(vector.name, name + ".weight")) {
      found = true;
      *vector.tensor = leaf(*vector.tensor);
    }
  if (!found)
    throw RecipeError("adapter.modules_to_save: this model has no layer named '" + printable(name) + "'");
}

namespace {

void attach_full(Model& model) {
  for (auto* layer : model.linears())
    if (!chooses_only(layer->place.role)) train_whole(*layer);
  for (auto& vector : model.vectors())
    if (!chooses_only(vector.place.role)) *vector.tensor = leaf(*vector.tensor);
  train_whole(model.embedding);
  if (model.config.tied_head)
    model.head.linear.weight = model.embedding;  // one leaf, two uses: its gradient is the sum
  else train_whole(model.head.linear.weight);
}

}  // namespace

Tensor row_norms(const Weight& weight) {
  auto norms = at::empty({weight.rows}, at::kFloat);
  for (int64_t first = 0; first < weight.rows; first += kRowsAtOnce) {
    const auto count = std::min(kRowsAtOnce, weight.rows - first);
    norms.narrow(0, first, count).copy_(widen_rows(weight, first, count, at::kFloat).detach().norm(2, {1}));
  }
  return norms;
}

bool has_adapters(const Model& model) {
  const auto linears = model.linears();
  return std::any_of(linears.begin(), linears.end(),
                     [](const Linear* layer) { return layer->adapter.has_value(); });
}

namespace {

// Layers whose names PEFT gives to the joined matrices of all experts, or to a matrix alone.
bool feeds_forward_sparsely(const ModelConfig& config, const TensorPlace& place) {
  const auto role = place.role;
  return config.experts > 0 &&
         (place.expert >= 0 || role == Role::gate || role == Role::up || role == Role::down ||
          role == Role::shared_gate || role == Role::shared_up || role == Role::shared_down);
}

void refuse_choosers(const Model& model, const std::string& key, const std::string& name) {
  const auto refuse = [&](const TensorPlace& place, const std::string& module) {
    if (chooses_only(place.role) && names_module(module, name))
      throw RecipeError(fmt::format(
          "{}: '{}' takes no part in what a loss is computed from, it only chooses {}; leave it out", key,
          printable(name), place.role == Role::router_bias ? "experts" : "what attention looks at"));
  };
  for (const auto* layer : model.linears()) refuse(layer->place, layer->name);
  for (const auto& vector : model.vectors()) refuse(vector.place, module_name(model.config, vector.place));
}

}  // namespace

void require_fitting(const Model& model, const AdapterSpec& spec) {
  if (has_adapters(model))
    throw RecipeError("adapter: this model has an adapter already; merge it first or continue its run");
  if (!spec.low_rank()) return;
  const auto linears = model.linears();
  std::vector<std::string> known;
  for (const auto* layer : linears) known.push_back(field_name(model.config, layer->place));
  for (const auto& target : spec.targets) {
    if (target == "lm_head" || target == "embed_tokens")
      throw RecipeError("adapter.targets: '" + target +
                        "' takes no low-rank adapter; list it in adapter.modules_to_save to train it whole");
    const auto vectors = model.vectors();
    if (std::any_of(vectors.begin(), vectors.end(), [&](const auto& vector) {
          return vector.place.role == Role::router && names_module(vector.name, target + ".weight");
        }))
      throw RecipeError("adapter.targets: '" + printable(target) +
                        "' is a router, which takes no low-rank adapter; list it in adapter.modules_to_save "
                        "to train it whole");
    if (target == "all" || target == "auto") continue;
    refuse_choosers(model, "adapter.targets", target);
    const bool found = std::any_of(linears.begin(), linears.end(),
                                   [&](const Linear* layer) { return names_module(layer->name, target); });
    if (found) continue;
    const auto near = nearest(target, known);
    throw RecipeError("adapter.targets: no linear layer of this model is named '" + printable(target) + "'" +
                      (near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  // PEFT fuses the matrices of all experts into one parameter, whose magnitudes it does not know.
  if (spec.kind == "dora")
    for (const auto* layer : linears)
      if (is_target(model.config, *layer, spec.targets) && feeds_forward_sparsely(model.config, layer->place))
        throw RecipeError(
            "adapter.kind: dora on experts is not written to a file that PEFT opens; set adapter.kind to "
            "lora or "
            "rslora, or adapter.targets to layers that are none of an expert's (q_proj, k_proj, v_proj, "
            "o_proj)");
  for (const auto& name : spec.modules_to_save) {
    if (names_module("lm_head", name) || names_module("model.embed_tokens", name)) continue;
    refuse_choosers(model, "adapter.modules_to_save", name);
    const auto vectors = model.vectors();
    const bool found =
        std::any_of(linears.begin(), linears.end(),
                    [&](const Linear* layer) { return names_module(layer->name, name); }) ||
        std::any_of(vectors.begin(), vectors.end(), [&](const auto& vector) {
          return names_module(vector.name, name) || names_module(vector.name, name + ".weight");
        });
    if (!found)
      throw RecipeError("adapter.modules_to_save: this model has no layer named '" + printable(name) + "'");
  }
}

std::vector<NamedTensor> attach(Model& model, const AdapterSpec& spec, uint64_t seed) {
  if (!spec.from.empty()) throw std::logic_error("attach: a fresh adapter where one of a file was asked for");
  require_fitting(model, spec);
  const at::NoGradGuard no_grad;
  if (spec.low_rank()) {
    attach_low_rank(model, spec, seed);
    for (const auto& name : std::set<std::string>(spec.modules_to_save.begin(), spec.modules_to_save.end()))
      train_module_whole(model, name);
  } else if (spec.kind == "full") {
    attach_full(model);
  }
  return trainables(model);
}

std::vector<NamedTensor> trainables(Model& model) {
  std::vector<NamedTensor> found;
  const std::string prefix = has_adapters(model) ? std::string(kPeftPrefix) : "";
  const auto add = [&](const std::string& name, Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad()) found.push_back({prefix + name, &tensor});
  };
  add("model.embed_tokens.weight", model.embedding.dense);
  for (auto* layer : model.linears()) {
    add(layer->name + ".weight", layer->weight.dense);  // the bias is among the model's vectors
    if (!layer->adapter) continue;
    add(layer->name + ".lora_A.weight", layer->adapter->a);
    add(layer->name + ".lora_B.weight", layer->adapter->b);
    add(layer->name + ".lora_magnitude_vector", layer->adapter->magnitude);
  }
  for (auto& vector : model.vectors()) add(vector.name, *vector.tensor);
  if (!model.config.tied_head) add("lm_head.weight", model.head.linear.weight.dense);
  return found;
}

}  // namespace retort
