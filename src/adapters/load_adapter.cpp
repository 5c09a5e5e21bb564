#include "adapters/load_adapter.h"

#include <map>
#include <set>

#include <fmt/ranges.h>

#include <algorithm>

#include "adapters/attach.h"
#include "base/error.h"
#include "formats/peft_folder.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "quant/finite.h"

namespace retort {
namespace {

Tensor values_of(const TensorView& view) {
  if (const auto found = first_not_finite(view.type, view.data))
    corrupt(view.file->name(), view.name,
            fmt::format("holds a number that is not finite (element {}); is the file whole, and did its "
                        "training end well?",
                        *found));
  auto values = at::empty(view.shape, at::kFloat);
  dequantize_rows(view.type, view.data.data(), values.mutable_data_ptr<float>(), 1, view.elements());
  return values;
}

void require_shape(const std::string& file, const TensorView& tensor, const std::vector<int64_t>& expected) {
  if (tensor.shape == expected) return;
  corrupt(file, tensor.name,
          fmt::format("has shape [{}], this base needs [{}]; is it another model's adapter?",
                      fmt::join(tensor.shape, ", "), fmt::join(expected, ", ")));
}

using LayersByName = std::map<std::string, Linear*>;

Linear& layer_named(const LayersByName& layers, const std::string& name, const std::string& file) {
  if (const auto found = layers.find(name); found != layers.end()) return *found->second;
  std::vector<std::string> known;
  for (const auto& [other, layer] : layers) known.push_back(other);
  const auto near = nearest(name, known);
  corrupt(file, name,
          fmt::format("the base has no such linear layer{}; is it another model's adapter?",
                      near.empty() ? "" : fmt::format(" (nearest: {})", near)));
}

void require_bare(const Model& model, const std::filesystem::path& path) {
  if (has_adapters(model))
    throw RecipeError(fmt::format("{}: the model carries an adapter already; load it on the plain base",
                                  printable(path.string())));
}

LowRank low_rank(Tensor a, Tensor b, double scaling, double dropout) {
  LowRank adapter;
  adapter.a = std::move(a);
  adapter.b = std::move(b);
  adapter.scaling = scaling;
  adapter.dropout = dropout;
  return adapter;
}

// Only after all of it has been read: a half-loaded adapter would be a third model.
void put_on(std::vector<std::pair<Linear*, LowRank>> adapters) {
  for (auto& [layer, adapter] : adapters) {
    adapter.a.requires_grad_(true);
    adapter.b.requires_grad_(true);
    if (adapter.magnitude.defined()) adapter.magnitude.requires_grad_(true);
    layer->adapter = std::move(adapter);
  }
}

}  // namespace

void load_peft_adapter(LoadedModel& loaded, const std::filesystem::path& folder) {
  auto& model = *loaded.model;
  require_bare(model, folder);
  const auto peft = open_peft_folder(folder);
  const auto file = peft.file->path.string();
  const auto base = peft.file->safetensors_metadata.find(kBaseHashKey);
  if (base != peft.file->safetensors_metadata.end() && base->second != loaded.sha256.get())
    corrupt(file, kBaseHashKey,
            fmt::format("was trained on weights of sha256 {}, {} has {}; load it on its own base",
                        printable(base->second), printable(loaded.path.string()), loaded.sha256.get()));

  const at::NoGradGuard no_grad;
  LayersByName layers;
  for (auto* layer : model.linears()) layers[layer->name] = layer;
  std::vector<std::pair<Linear*, LowRank>> adapters;
  for (const auto& module : peft.modules) {
    auto& layer = layer_named(layers, plain_module(module.name), file);
    const auto rank = module.a->shape[0];
    require_shape(file, *module.a, {rank, layer.weight.columns});
    require_shape(file, *module.b, {layer.weight.rows, rank});
    adapters.emplace_back(&layer, low_rank(values_of(*module.a), values_of(*module.b), module.scaling,
                                           peft.config.lora_dropout));
    if (module.magnitude) adapters.back().second.magnitude = values_of(*module.magnitude);
  }
  std::vector<std::pair<std::string, Tensor>> saved;  // "lm_head.weight"
  for (const auto& [name, tensor] : peft.saved) saved.emplace_back(plain_module(name), values_of(*tensor));
  for (const auto& [name, values] : saved) {
    const auto module = name.substr(0, name.rfind('.'));
    try {
      train_module_whole(model, module);
    } catch (const RecipeError&) {
      corrupt(file, name, "the base has no such layer; is it another model's adapter?");
    }
  }
  put_on(std::move(adapters));
  const auto leaves = trainables(model);
  for (const auto& [name, values] : saved) {
    // Without a low-rank adapter beside it a leaf has the checkpoint's name.
    const auto leaf = std::find_if(leaves.begin(), leaves.end(), [&](const NamedTensor& one) {
      return one.name == name || one.name == std::string(kPeftPrefix) + name;
    });
    if (leaf == leaves.end())
      corrupt(file, name, "the base has no such weight; is it another model's adapter?");
    if (leaf->tensor->sizes() != values.sizes())
      corrupt(file, name,
              fmt::format("has shape [{}], this base needs [{}]; is it another model's adapter?",
                          fmt::join(values.sizes(), ", "), fmt::join(leaf->tensor->sizes(), ", ")));
    leaf->tensor->copy_(values);
  }
}

void load_gguf_adapter(LoadedModel& loaded, const std::filesystem::path& path) {
  auto& model = *loaded.model;
  require_bare(model, path);
  const auto weights = open_gguf(path);
  const auto file = path.string();
  const auto* kind = text(weights.metadata("adapter.type"));
  if (!kind || *kind != "lora") corrupt(file, "adapter.type", "expected 'lora'; is it a GGUF adapter?");
  const auto* architecture = text(weights.metadata("general.architecture"));
  if (!architecture || *architecture != gguf_architecture(model.config))
    corrupt(file, "general.architecture",
            fmt::format("is '{}', the base is '{}'; is it another model's adapter?",
                        architecture ? printable(*architecture) : "", gguf_architecture(model.config)));
  const auto alpha = real_number(weights.metadata("adapter.lora.alpha"));
  if (!alpha) corrupt(file, "adapter.lora.alpha", "is missing");

  const at::NoGradGuard no_grad;
  std::vector<std::pair<Linear*, LowRank>> adapters;
  std::set<const TensorView*> used;
  for (auto* layer : model.linears()) {
    const auto gguf = gguf_tensor(model.config, layer->place);
    const auto* a = weights.find(gguf.name + ".lora_a");
    const auto* b = weights.find(gguf.name + ".lora_b");
    if (!a && !b) continue;
    if (!a || !b) corrupt(file, gguf.name, fmt::format("lora_{} is missing", a ? "b" : "a"));
    used.insert({a, b});
    const bool stacked = gguf.expert >= 0;  // of all of a layer's experts
    if (a->shape.size() != (stacked ? 3 : 2))
      corrupt(file, a->name, stacked ? "expected a matrix for each expert" : "expected a matrix");
    const auto rank = a->shape[stacked ? 1 : 0], experts = model.config.experts;
    require_shape(file, *a,
                  stacked ? std::vector<int64_t>{experts, rank, layer->weight.columns}
                          : std::vector<int64_t>{rank, layer->weight.columns});
    require_shape(file, *b,
                  stacked ? std::vector<int64_t>{experts, layer->weight.rows, rank}
                          : std::vector<int64_t>{layer->weight.rows, rank});
    if (stacked) {
      adapters.emplace_back(layer,
                            low_rank(values_of(*a)[gguf.expert].clone(), values_of(*b)[gguf.expert].clone(),
                                     *alpha / static_cast<double>(rank), 0));
      continue;
    }
    auto rows = values_of(*b);
    if (gguf.permuted_heads > 0) {
      const auto stored = rows;
      rows = at::empty_like(stored);
      for (int64_t row = 0; row < rows.size(0); ++row)
        rows[row].copy_(stored[gguf_row_of(row, gguf.permuted_heads, rows.size(0))]);
    }
    adapters.emplace_back(layer, low_rank(values_of(*a), rows, *alpha / static_cast<double>(rank), 0));
  }
  if (adapters.empty() || used.size() != weights.tensors.size())
    corrupt(file, "",
            fmt::format("{} of its {} tensors belong to layers of the base; is it another model's adapter?",
                        used.size(), weights.tensors.size()));
  put_on(std::move(adapters));
}

void load_adapter(LoadedModel& loaded, const std::filesystem::path& path) {
  if (path.extension() == ".gguf") load_gguf_adapter(loaded, path);
  else load_peft_adapter(loaded, path);
}

}  // namespace retort
