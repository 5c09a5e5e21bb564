#include "adapters/load_adapter.h"

#include <algorithm>
#include <map>

#include "adapters/attach.h"
#include "adapters/fit_adapter.h"
#include "adapters/merge.h"
#include "base/error.h"
#include "base/hash.h"
#include "formats/adapter_folder.h"
#include "models/add_tokens.h"
#include "models/tensor_names.h"

namespace retort {
namespace {

void require_bare(const Model& model, const std::filesystem::path& path) {
  if (has_adapters(model))
    throw RecipeError(fmt::format("{}: the model carries an adapter already; load it on the plain base",
                                  printable(path.string())));
}

// Of all of them one: each layer's A below one another with weight and scaling in them, each layer's B side
// by side.
FittedAdapter joined(std::vector<FittedAdapter> all, const std::vector<WeightedAdapter>& adapters) {
  const at::NoGradGuard no_grad;
  FittedAdapter sum;
  std::map<Linear*, std::vector<LowRank>> parts;
  std::vector<Linear*> order;
  for (size_t i = 0; i < all.size(); ++i) {
    sum.file += (i > 0 ? " + " : "") + all[i].file;
    sum.notes.insert(sum.notes.end(), all[i].notes.begin(), all[i].notes.end());
    const auto cannot = [&](const std::string& what) {
      throw RecipeError(
          fmt::format("{}: {}, which is neither weighted nor added to another adapter; load it "
                      "alone, with weight 1",
                      printable(adapters[i].path), what));
    };
    if (!all[i].saved.empty())
      cannot(fmt::format("holds a whole layer ({})", printable(all[i].saved.front().first)));
    if (!all[i].rows.ids.empty()) cannot("holds rows of tokens that were trained alone");
    for (auto& [layer, adapter] : all[i].layers) {
      if (adapter.magnitude.defined()) cannot("is DoRA");
      adapter.scaling *= adapters[i].weight;
      adapter.dropout = 0;
      if (!parts.contains(layer)) order.push_back(layer);
      parts[layer].push_back(std::move(adapter));
    }
  }
  for (auto* layer : order) {
    auto& some = parts[layer];
    if (some.size() == 1) {
      sum.layers.emplace_back(layer, std::move(some.front()));
      continue;
    }
    std::vector<Tensor> as, bs;
    for (const auto& part : some) as.push_back(part.a * part.scaling), bs.push_back(part.b);
    sum.layers.emplace_back(layer, low_rank(at::cat(as, 0), at::cat(bs, 1), 1, 0));
  }
  return sum;
}

}  // namespace

AdapterNotes load_adapters(LoadedModel& loaded, const std::vector<WeightedAdapter>& adapters) {
  if (adapters.empty()) return {};
  std::vector<FittedAdapter> all;
  for (const auto& adapter : adapters) {
    require_bare(*loaded.model, adapter.path);
    if (loaded.added_tokens.empty() && loaded.tokenizer) add_tokens(loaded, tokens_added_for(adapter.path));
    all.push_back(fit_adapter(loaded, adapter.path));
  }
  const bool plain = all.size() == 1 && adapters[0].weight == 1;
  auto fitted = plain ? std::move(all.front()) : joined(std::move(all), adapters);
  auto notes = std::move(fitted.notes);
  put_on(*loaded.model, std::move(fitted));
  return notes;
}

AdapterNotes load_adapter(LoadedModel& loaded, const std::filesystem::path& path) {
  return load_adapters(loaded, {{path.string(), 1}});
}

AdapterNotes merge_into_base(LoadedModel& loaded, const std::vector<WeightedAdapter>& adapters) {
  const auto base = loaded.sha256.get();
  auto notes = load_adapters(loaded, adapters);
  auto& model = *loaded.model;
  Sha256 hash;
  hash.add("merged ").add(base);
  for (const auto& adapter : adapters) {
    hash.add(fmt::format("\n{}", adapter.weight));
    for (const auto& file : adapter_files(adapter.path)) hash.add(sha256_file(file));
  }
  if (has_adapters(model)) merge_adapters(loaded);
  loaded.sha256 = hash.hex();
  // Layers that an adapter held whole are the base's own from here on.
  for (const auto& leaf : trainables(model)) *leaf.tensor = leaf.tensor->detach();
  return notes;
}

AdapterSpec described_adapter(Model& model) {
  AdapterSpec spec{.kind = "none", .targets = {}, .modules_to_save = {}};
  std::map<std::pair<int64_t, double>, int64_t> kinds;  // rank and scaling: how often
  for (const auto* layer : std::as_const(model).matrices()) {
    if (!layer->adapter) continue;
    spec.kind = layer->adapter->magnitude.defined() ? "dora" : "lora";
    ++kinds[{layer->adapter->a.size(0), layer->adapter->scaling}];
    const bool mtp = layer->place.layer >= model.config.layers;
    const auto field = mtp ? "mtp" : field_name(model.config, layer->place);
    if (std::find(spec.targets.begin(), spec.targets.end(), field) == spec.targets.end())
      spec.targets.push_back(field);
  }
  int64_t most = 0;
  for (const auto& [kind, count] : kinds) {
    if (count <= most) continue;
    most = count, spec.rank = kind.first;
    spec.alpha = kind.second * static_cast<double>(kind.first);
  }
  const auto& head = model.head.linear;
  if (const auto& rows = model.embedding.rows ? model.embedding.rows : head.rows)
    for (const auto id : rows->ids) spec.trainable_tokens.push_back(fmt::format("{}", id));
  spec.trainable_tokens_head = head.rows && !model.config.tied_head;
  if (!spec.trainable_tokens.empty() && spec.kind == "none") spec.kind = "lora";
  for (const auto& leaf : trainables(model)) {
    auto name = leaf.name;
    if (name.starts_with(kPeftPrefix)) name = name.substr(kPeftPrefix.size());
    if (name.find(".lora_") == std::string::npos && name.find(".token_adapter.") == std::string::npos)
      spec.modules_to_save.push_back(name.substr(0, name.rfind('.')));
  }
  return spec;
}

}  // namespace retort
