#include <cstring>
#include <map>
#include <utility>

#include "adapters/attach.h"
#include "base/error.h"
#include "export/artefacts.h"
#include "formats/weight_file.h"
#include "models/tensor_names.h"

namespace retort {
namespace {

using Tensors = std::vector<Tensor>;

TensorSource float_tensor(std::string name, const Tensor& values) {
  const auto owned = values.detach().to(at::kFloat).contiguous();
  return {std::move(name), WeightType::f32, owned.sizes().vec(), [owned](const auto& sink) {
            sink(std::as_bytes(
                std::span(owned.template const_data_ptr<float>(), static_cast<size_t>(owned.numel()))));
          }};
}

// Whether embedding and head are one matrix, of a head that an adapter untied as well.
bool shares_matrix(const Model& model) {
  const auto& one = model.embedding.weight;
  const auto& other = model.head.linear.weight;
  return one.dense.defined() ? one.dense.is_same(other.dense) : one.blocks.data() == other.blocks.data();
}

// Those of latent attention that llama.cpp multiplies without looking for an adapter, o_proj aside.
bool attends(Role role) {
  return role == Role::q || role == Role::q_a || role == Role::q_b || role == Role::kv_a ||
         role == Role::kv_b || chooses_only(role);
}

// What has an adapter, but for the layer behind the last, which no GGUF file that is written here has.
std::vector<const Linear*> adapted_layers(const Model& model) {
  auto layers = model.matrices();
  std::erase_if(layers, [&](const Linear* layer) {
    return !layer->adapter || layer->place.layer >= model.config.layers;
  });
  return layers;
}

}  // namespace

// llama.cpp scales by adapter.lora.alpha / rank and has no rsLoRA flag, so alpha is written as scaling *
// rank. It is one number for all layers: where another layer's is another, its B makes up for that.
Artefact write_gguf_adapter(const std::filesystem::path& file, LoadedModel& loaded, const AdapterSpec& spec) {
  if (spec.kind == "dora")
    throw RecipeError(
        "export.gguf_adapter: a GGUF adapter holds LoRA only, this one is DoRA; set export.gguf_adapter: "
        "false and deploy the merged model");
  if (!spec.modules_to_save.empty())
    throw RecipeError(
        "export.gguf_adapter: a GGUF adapter cannot hold adapter.modules_to_save; set export.gguf_adapter: "
        "false and deploy the merged model");
  auto& model = *loaded.model;
  if (model.embedding.rows || model.head.linear.rows)
    throw RecipeError(
        "export.gguf_adapter: a GGUF adapter cannot hold adapter.trainable_tokens; set export.gguf_adapter: "
        "false and deploy the merged model");
  // In the file of a tied base one tensor is both, and llama.cpp would put the adapter of one on the other.
  for (const auto* layer : {&model.embedding, &model.head.linear})
    if (layer->adapter && shares_matrix(model))
      throw RecipeError(fmt::format(
          "export.gguf_adapter: {} is adapted, and the base's embedding and head are one tensor, on which a "
          "GGUF adapter would change both; set export.gguf_adapter: false and deploy the merged model",
          layer->name));
  if (model.config.latent)
    for (const auto* layer : adapted_layers(model))
      if (attends(layer->place.role))
        throw RecipeError(fmt::format(
            "export.gguf_adapter: {} is adapted, and llama.cpp puts no adapter on the projections of latent "
            "attention; set export.gguf_adapter: false and deploy the merged model",
            layer->name));
  std::vector<TensorSource> sources;
  const auto alpha_of = [](const Linear& layer) {
    return layer.adapter->scaling * static_cast<double>(layer.adapter->a.size(0));
  };
  double alpha = 0;
  for (const auto* layer : adapted_layers(model))
    if (alpha == 0) alpha = alpha_of(*layer);
  std::map<std::string, std::pair<Tensors, Tensors>> experts;  // of all of a layer: A and B of each, in order
  for (const auto* layer : adapted_layers(model)) {
    const auto gguf = gguf_tensor(model.config, layer->place);
    const auto own = alpha_of(*layer);
    auto b = layer->adapter->b.detach();
    if (own != alpha) b = b * (own / alpha);
    if (gguf.expert >= 0) {
      auto& [as, bs] = experts[gguf.name];
      as.push_back(layer->adapter->a.detach());
      bs.push_back(b);
      continue;
    }
    if (layer->place.role == Role::embedding) {  // llama.cpp looks A up and multiplies B with it
      sources.push_back(float_tensor(gguf.name + ".lora_a", b));
      sources.push_back(float_tensor(gguf.name + ".lora_b", layer->adapter->a.detach().t()));
      continue;
    }
    sources.push_back(float_tensor(gguf.name + ".lora_a", layer->adapter->a));
    if (gguf.permuted_heads > 0) {  // B's rows are output rows, which GGUF interleaves
      auto permuted = at::empty_like(b);
      for (int64_t row = 0; row < b.size(0); ++row)
        permuted[row].copy_(b[hf_row_of(row, gguf.permuted_heads, b.size(0))]);
      b = permuted;
    }
    sources.push_back(float_tensor(gguf.name + ".lora_b", b));
  }
  for (const auto& [name, parts] : experts) {
    if (static_cast<int64_t>(parts.first.size()) != model.config.experts)
      throw RecipeError(
          fmt::format("export.gguf_adapter: {} of {} experts of {} have an adapter, and a GGUF adapter holds "
                      "all of them; set export.gguf_adapter: false and deploy the merged model",
                      parts.first.size(), model.config.experts, name));
    sources.push_back(float_tensor(name + ".lora_a", at::stack(parts.first)));
    sources.push_back(float_tensor(name + ".lora_b", at::stack(parts.second)));
  }
  if (sources.empty()) throw RecipeError("export.gguf_adapter: the model has no low-rank adapter to write");
  const std::vector<std::pair<std::string, GgufValue>> metadata = {
      {"general.architecture", gguf_architecture(model.config)},
      {"general.type", std::string("adapter")},
      {"adapter.type", std::string("lora")},
      {"adapter.lora.alpha", static_cast<float>(alpha)},
      {"general.file_type", uint32_t{0}},
  };
  write_gguf(file, metadata, sources);
  return {"gguf-adapter", "F32", file, std::filesystem::file_size(file), {}, 0};
}

}  // namespace retort
