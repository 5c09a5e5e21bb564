#include "adapters/attach.h"

#include <fmt/ranges.h>

#include <algorithm>
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

// PEFT's beginning of an adapted embedding.
Tensor normal(int64_t rank, int64_t in, uint64_t seed, const std::string& layer) {
  auto a = at::empty({rank, in}, at::kFloat);
  const Draws draws(seed, "lora_A " + layer);
  float* values = a.mutable_data_ptr<float>();
  for (int64_t i = 0; i < rank * in; ++i)
    values[i] = static_cast<float>(draws.normal(static_cast<uint64_t>(i)));
  return a;
}

LowRank low_rank(const Linear& layer, const AdapterSpec& spec, uint64_t seed) {
  LowRank adapter;
  const auto fresh = layer.place.role == Role::embedding ? normal : kaiming_uniform;
  adapter.a = fresh(spec.rank, layer.weight.columns, seed, layer.name).requires_grad_(true);
  adapter.b = at::zeros({layer.weight.rows, spec.rank}, at::kFloat).requires_grad_(true);
  if (spec.kind == "dora") adapter.magnitude = row_norms(base_matrix(layer).weight).requires_grad_(true);
  adapter.scaling = spec.scaling();
  adapter.dropout = spec.dropout;
  return adapter;
}

Tensor rows_of(const Weight& weight, const std::vector<int64_t>& ids) {
  auto rows = at::empty({static_cast<int64_t>(ids.size()), weight.columns}, at::kFloat);
  for (size_t i = 0; i < ids.size(); ++i) {
    auto row = rows.narrow(0, static_cast<int64_t>(i), 1);
    widen_rows_into(weight, ids[i], 1, row);
  }
  return rows;
}

void attach_rows(Model& model, const AdapterSpec& spec) {
  if (spec.trainable_tokens.empty()) return;
  std::vector<int64_t> ids;
  for (const auto& id : spec.trainable_tokens) ids.push_back(std::stoll(id));  // with_token_ids()
  train_rows(model, ids, rows_of(model.embedding.weight, ids),
             spec.trainable_tokens_head ? rows_of(model.head.linear.weight, ids) : Tensor());
}

void attach_low_rank(Model& model, const AdapterSpec& spec, uint64_t seed) {
  for (auto* layer : model.matrices()) {
    const bool wanted = is_target(model.config, *layer, spec.targets);
    const bool whole = std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                                   [&](const auto& name) { return names_module(layer->name, name); });
    if (wanted && !whole) put_adapter(model, *layer, low_rank(*layer, spec, seed));
  }
}

// The head and the embedding get matrices of their own, so that one may be trained without the other.
void untie(Model& model) {
  if (!model.config.tied_head) return;
  model.config.tied_head = false;
  model.head.linear.name = "lm_head";
}

}  // namespace

bool stands_outside(const Linear& layer) {
  return layer.place.role == Role::embedding || layer.place.role == Role::head;
}

void put_adapter(Model& model, Linear& layer, LowRank adapter) {
  if (stands_outside(layer)) {
    untie(model);
    layer.int8_scales = Tensor();  // a frozen head's, for its gradient alone
  }
  layer.adapter = std::move(adapter);
}

bool names_module(const std::string& layer, const std::string& target) {
  return layer == target || (layer.size() > target.size() && layer.ends_with(target) &&
                             layer[layer.size() - target.size() - 1] == '.');
}

bool is_target(const ModelConfig& config, const Linear& layer, const std::vector<std::string>& targets) {
  const auto role = layer.place.role;
  const auto asks_for = [&](const std::string& target) {
    return std::ranges::find(targets, target) != targets.end();
  };
  // The layer behind the last is another part of the model: by the name of the group, or by a whole name.
  const bool mtp = layer.place.layer >= config.layers;
  if (mtp && !asks_for("mtp")) return asks_for(layer.name) && !chooses_only(role);
  // It takes no part in what a loss is computed from: it is trained where a target asks for it by this name,
  // by a loss of its own (ops/index_loss.h).
  if (role == Role::index_q || role == Role::index_k || role == Role::index_weights)
    return !mtp && asks_for("indexer");
  if (chooses_only(role)) return false;
  // What is tuned of a DeepSeek by habit: adapters of all its experts would be 6.6 G numbers at rank 16.
  const bool usual = !config.latent || role == Role::q || role == Role::q_a || role == Role::q_b ||
                     role == Role::kv_a || role == Role::kv_b || role == Role::o;
  const bool inside = !stands_outside(layer);
  return std::any_of(targets.begin(), targets.end(), [&](const auto& target) {
    return (target == "all" && inside) || (target == "auto" && inside && usual) ||
           (target == "mtp" && mtp && (usual || role == Role::mtp_join)) || names_module(layer.name, target);
  });
}

void train_module_whole(Model& model, const std::string& name) {
  if (names_module("lm_head", name) || names_module("model.embed_tokens", name)) {
    untie(model);
    train_whole(names_module("lm_head", name) ? model.head.linear.weight : model.embedding.weight);
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
  train_whole(model.embedding.weight);
  if (model.config.tied_head)
    model.head.linear.weight = model.embedding.weight;  // one leaf, two uses: its gradient is the sum
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

void train_rows(Model& model, const std::vector<int64_t>& ids, const Tensor& values, const Tensor& of_head) {
  auto& head = model.head.linear;
  if (values.defined()) model.embedding.rows = TrainedRows{ids, leaf(values)};
  if (model.config.tied_head)
    head.rows = model.embedding.rows;  // one leaf, two uses: its gradient is the sum
  else if (of_head.defined()) head.rows = TrainedRows{ids, leaf(of_head)};
  if (head.rows) head.int8_scales = Tensor();  // a frozen head's, for its gradient alone
}

bool unties(const Model& model, const AdapterSpec& spec) {
  if (!model.config.tied_head || !spec.low_rank()) return false;
  const auto outside = {&model.embedding, &model.head.linear};
  return std::any_of(outside.begin(), outside.end(), [&](const Linear* layer) {
    return is_target(model.config, *layer, spec.targets) ||
           std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                       [&](const auto& name) { return names_module(layer->name, name); });
  });
}

bool has_adapters(const Model& model) {
  const auto matrices = model.matrices();
  return std::any_of(matrices.begin(), matrices.end(),
                     [](const Linear* layer) { return layer->adapter || layer->rows; });
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
          "{}: '{}' takes no part in what a loss is computed from, it only chooses {}; {}", key,
          printable(name), place.role == Role::router_bias ? "experts" : "what attention looks at",
          place.role == Role::router_bias ? "leave it out"
                                          : "leave it out, or name 'indexer' in adapter.targets"));
  };
  for (const auto* layer : model.linears()) refuse(layer->place, layer->name);
  for (const auto& vector : model.vectors()) refuse(vector.place, module_name(model.config, vector.place));
}

// Rows that are trained alone take the place of the matrix's own, whatever else is said of it.
void refuse_rows(const Model& model, const AdapterSpec& spec) {
  if (spec.trainable_tokens.empty()) return;
  if (!spec.low_rank())
    throw RecipeError(fmt::format(
        "adapter.trainable_tokens: rows are trained alone beside adapters, and adapter.kind is {}; leave the "
        "key out, or set adapter.kind to lora, rslora or dora",
        spec.kind));
  const auto refuse = [&](const Linear& layer) {
    const auto field = field_name(model.config, layer.place);
    const bool saved = std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                                   [&](const auto& name) { return names_module(layer.name, name); });
    if (saved || is_target(model.config, layer, spec.targets))
      throw RecipeError(fmt::format(
          "adapter.trainable_tokens: {} is in adapter.{} too, which changes the rows of all tokens; take it "
          "out of there, or leave trainable_tokens out",
          field, saved ? "modules_to_save" : "targets"));
  };
  refuse(model.embedding);
  if (model.config.tied_head || spec.trainable_tokens_head) refuse(model.head.linear);
}

// The embedding and the head are adapted where a target names them.
void refuse_outside(const ModelConfig& config, const Linear& layer, const AdapterSpec& spec) {
  if (!is_target(config, layer, spec.targets)) return;
  const auto field = field_name(config, layer.place);
  if (std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                  [&](const auto& name) { return names_module(layer.name, name); }))
    throw RecipeError(
        "adapter.targets: '" + field +
        "' is in adapter.modules_to_save too, which trains it whole; take it out of one of them");
  if (spec.kind == "dora" && layer.place.role == Role::embedding)
    throw RecipeError(
        "adapter.targets: '" + field +
        "' is no target of DoRA, which would scale the embedding's columns by one magnitude for all tokens; "
        "set adapter.kind to lora or rslora, or train it whole with adapter.modules_to_save");
}

}  // namespace

void require_fitting(const Model& model, const AdapterSpec& spec) {
  if (has_adapters(model))
    throw RecipeError("adapter: this model has an adapter already; merge it first or continue its run");
  refuse_rows(model, spec);
  if (!spec.low_rank()) return;
  const auto matrices = model.matrices();
  std::vector<std::string> known;
  for (const auto* layer : matrices) known.push_back(field_name(model.config, layer->place));
  for (const auto& target : spec.targets) {
    const auto vectors = model.vectors();
    if (std::any_of(vectors.begin(), vectors.end(), [&](const auto& vector) {
          return vector.place.role == Role::router && names_module(vector.name, target + ".weight");
        }))
      throw RecipeError("adapter.targets: '" + printable(target) +
                        "' is a router, which takes no low-rank adapter; list it in adapter.modules_to_save "
                        "to train it whole");
    if (target == "all" || target == "auto" || (target == "indexer" && model.config.indexer)) continue;
    if (target == "mtp" && model.config.mtp_layers > 0) continue;
    if (target == "mtp")
      throw RecipeError(
          "adapter.targets: 'mtp' is the layer behind the last, which predicts the token after the next and "
          "is not read here; set model.mtp: true, or leave it out");
    refuse_choosers(model, "adapter.targets", target);
    const bool found = std::any_of(matrices.begin(), matrices.end(),
                                   [&](const Linear* layer) { return names_module(layer->name, target); });
    if (found) continue;
    const auto near = nearest(target, known);
    std::vector<std::string> names;
    for (const auto& name : known)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    throw RecipeError(
        fmt::format("adapter.targets: no linear layer of this model is named '{}'{}", printable(target),
                    near.empty() ? fmt::format("; it has {}; or write [all]", fmt::join(names, ", "))
                                 : "; did you mean '" + near + "'?"));
  }
  // PEFT fuses the matrices of all experts into one parameter, whose magnitudes it does not know.
  if (spec.kind == "dora")
    for (const auto* layer : matrices)
      if (is_target(model.config, *layer, spec.targets) && feeds_forward_sparsely(model.config, layer->place))
        throw RecipeError(
            "adapter.kind: dora on experts is not written to a file that PEFT opens; set adapter.kind to "
            "lora or "
            "rslora, or adapter.targets to layers that are none of an expert's (q_proj, k_proj, v_proj, "
            "o_proj)");
  for (const auto* layer : {&model.embedding, &model.head.linear}) refuse_outside(model.config, *layer, spec);
  const auto linears = model.linears();
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

namespace {

// Whether the rows of tokens that were added are to be trained alone.
bool trains_added_rows(const AdapterSpec& spec, const LoadedModel& loaded) {
  if (loaded.added_tokens.empty() || !spec.low_rank()) return false;
  const auto& model = *loaded.model;
  int64_t saved = 0;
  for (const auto* layer : {&model.embedding, &model.head.linear}) {
    if (is_target(model.config, *layer, spec.targets))
      throw RecipeError(fmt::format(
          "adapter.targets: '{}' is adapted, and PEFT holds no rows of added tokens (model.add_tokens) "
          "beside "
          "such an adapter; list embed_tokens and lm_head in adapter.modules_to_save, or leave both out",
          field_name(model.config, layer->place)));
    saved += std::any_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                         [&](const auto& name) { return names_module(layer->name, name); });
  }
  if (saved == 1)
    throw RecipeError(
        "adapter.modules_to_save: names one of embed_tokens and lm_head, and added tokens (model.add_tokens) "
        "have rows in both; name both, or neither to train the new rows alone");
  return saved == 0;
}

}  // namespace

AdapterSpec with_token_ids(AdapterSpec spec, const LoadedModel& loaded) {
  const auto* tokenizer = loaded.tokenizer.get();
  const auto& config = loaded.model->config;
  std::set<int64_t> ids;
  for (const auto& token : spec.trainable_tokens) {
    const auto refuse = [&](const std::string& problem) {
      throw RecipeError(fmt::format("adapter.trainable_tokens: '{}' {}", printable(token), problem));
    };
    const bool number =
        !token.empty() && token.size() < 10 && token.find_first_not_of("0123456789") == std::string::npos;
    const auto found = !number && tokenizer ? tokenizer->find(token) : std::nullopt;
    if (!number && !found)
      refuse("is no token of this model; expected an id, or a token as the vocabulary spells it");
    const auto id = number ? std::stoll(token) : int64_t{*found};
    if (id >= config.vocabulary)
      refuse(fmt::format(
          "has no row in the embedding, which has {}{}", config.vocabulary,
          spec.from.empty() ? ""
                            : fmt::format("; if it is a token that was added to the base of {}, add the same "
                                          "ones here (model.add_tokens, model.add_words)",
                                          printable(spec.from))));
    if (!ids.insert(id).second) refuse("stands there twice");
  }
  if (trains_added_rows(spec, loaded)) {
    for (const auto& token : loaded.added_tokens) ids.insert(tokenizer->find(token.text).value());
    spec.trainable_tokens_head = true;
  }
  spec.trainable_tokens.clear();
  for (const auto id : ids) spec.trainable_tokens.push_back(fmt::format("{}", id));
  return spec;
}

std::vector<NamedTensor> attach(Model& model, const AdapterSpec& spec, uint64_t seed) {
  if (!spec.from.empty()) throw std::logic_error("attach: a fresh adapter where one of a file was asked for");
  require_fitting(model, spec);
  const at::NoGradGuard no_grad;
  if (spec.low_rank()) {
    attach_low_rank(model, spec, seed);
    attach_rows(model, spec);
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
  const auto add_adapter = [&](Linear& layer) {
    if (!layer.adapter) return;
    add(layer.name + ".lora_A.weight", layer.adapter->a);
    add(layer.name + ".lora_B.weight", layer.adapter->b);
    add(layer.name + ".lora_magnitude_vector", layer.adapter->magnitude);
  };
  const auto add_rows = [&](Linear& layer) {
    if (layer.rows) add(layer.name + ".token_adapter.trainable_tokens_delta", layer.rows->values);
  };
  add("model.embed_tokens.weight", model.embedding.weight.dense);
  add_adapter(model.embedding);
  add_rows(model.embedding);
  for (auto* layer : model.linears()) {
    add(layer->name + ".weight", layer->weight.dense);  // the bias is among the model's vectors
    add_adapter(*layer);
  }
  for (auto& vector : model.vectors()) add(vector.name, *vector.tensor);
  if (!model.config.tied_head) {
    add("lm_head.weight", model.head.linear.weight.dense);
    add_rows(model.head.linear);
  }
  add_adapter(model.head.linear);
  return found;
}

}  // namespace retort
