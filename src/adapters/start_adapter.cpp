#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "adapters/attach.h"
#include "adapters/fit_adapter.h"
#include "base/error.h"

namespace retort {
namespace {

bool adapts(const ModelConfig& config, const AdapterSpec& spec, const Linear& layer) {
  return is_target(config, layer, spec.targets) &&
         std::none_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                      [&](const std::string& name) { return names_module(layer.name, name); });
}

// The layers that the spec names are those that the adapter has.
void require_same_layers(const LoadedModel& loaded, const AdapterSpec& spec, const FittedAdapter& fitted) {
  const auto& model = *loaded.model;
  std::set<std::string> has;
  for (const auto& [layer, adapter] : fitted.layers) has.insert(layer->name);
  const auto from = printable(spec.from);
  for (const auto* layer : model.matrices()) {
    const bool wanted = adapts(model.config, spec, *layer), there = has.contains(layer->name);
    if (wanted && !there)
      throw RecipeError(
          fmt::format("adapter.targets: names {}, which {} does not adapt; leave the key out, and "
                      "its layers are taken from the adapter",
                      layer->name, from));
    if (there && !wanted)
      throw RecipeError(
          fmt::format("adapter.targets: {} adapts {}, which is not named here; leave the key out, "
                      "and its layers are taken from the adapter",
                      from, layer->name));
  }
  std::vector<std::string> rows;
  for (const auto id : fitted.rows.ids) rows.push_back(fmt::format("{}", id));
  const bool head = spec.trainable_tokens_head && !model.config.tied_head && !spec.trainable_tokens.empty();
  if (rows.empty() && !loaded.added_tokens.empty())
    throw RecipeError(fmt::format(
        "model.add_tokens: {} has no rows of the tokens that are added here; make it a part of the base "
        "(adapter.merge) and start from a fresh adapter, or leave model.add_tokens and model.add_words out",
        from));
  if (rows != spec.trainable_tokens || head != fitted.rows.of_head.defined())
    throw RecipeError(
        fmt::format("adapter.trainable_tokens: {} trains rows of the tokens [{}]{}, the recipe names [{}]{}; "
                    "leave the key out, and they are taken from the adapter",
                    from, fmt::join(rows, ", "), fitted.rows.of_head.defined() ? " and the head's" : "",
                    fmt::join(spec.trainable_tokens, ", "), head ? " and the head's" : ""));
  for (const auto& name : spec.modules_to_save)
    if (std::none_of(fitted.saved.begin(), fitted.saved.end(), [&](const auto& saved) {
          return names_module(saved.first.substr(0, saved.first.rfind('.')), name);
        }))
      throw RecipeError(
          fmt::format("adapter.modules_to_save: {} holds no layer named '{}'; leave the key out, "
                      "and its layers are taken from the adapter",
                      from, printable(name)));
  for (const auto& [saved, values] : fitted.saved)
    if (std::none_of(spec.modules_to_save.begin(), spec.modules_to_save.end(),
                     [module = saved.substr(0, saved.rfind('.'))](const std::string& name) {
                       return names_module(module, name);
                     }))
      throw RecipeError(
          fmt::format("adapter.modules_to_save: {} holds {}, which is not named here; leave the "
                      "key out, and its layers are taken from the adapter",
                      from, saved));
}

FittedAdapter fit_start(LoadedModel& loaded, const AdapterSpec& spec) {  // with_token_ids()
  require_fitting(*loaded.model, spec);
  auto fitted = fit_adapter(loaded, spec.from);
  require_same_layers(loaded, spec, fitted);
  for (auto& [layer, adapter] : fitted.layers) adapter.dropout = spec.dropout;
  return fitted;
}

}  // namespace

std::vector<NamedTensor> start_adapter(LoadedModel& loaded, const AdapterSpec& spec, uint64_t seed,
                                       AdapterNotes* notes) {
  const auto with_ids = with_token_ids(spec, loaded);
  if (spec.from.empty()) return attach(*loaded.model, with_ids, seed);
  auto fitted = fit_start(loaded, with_ids);
  if (notes) *notes = fitted.notes;
  put_on(*loaded.model, std::move(fitted));
  return trainables(*loaded.model);
}

AdapterNotes require_start(LoadedModel& loaded, const AdapterSpec& spec) {
  const auto with_ids = with_token_ids(spec, loaded);
  if (spec.from.empty()) return require_fitting(*loaded.model, with_ids), AdapterNotes();
  return fit_start(loaded, with_ids).notes;
}

}  // namespace retort
