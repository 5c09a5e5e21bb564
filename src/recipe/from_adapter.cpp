#include "recipe/from_adapter.h"

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "formats/adapter_folder.h"

namespace retort {

void take_from_adapter(AdapterSpec& spec, const YamlNode& root, std::vector<Problem>& problems) {
  if (spec.from.empty()) return;
  const auto* section = root.find("adapter");
  const auto written = [&](const char* key) { return section ? section->find(key) : nullptr; };
  const auto add = [&](const char* key, const std::string& text) {
    const auto* node = written(key);
    if (!node) node = written("from");
    problems.push_back({node ? node->place : root.place, fmt::format("adapter.{}: {}", key, text)});
  };
  const auto from = printable(spec.from);
  AdapterSummary found;
  try {
    if (!std::filesystem::is_directory(spec.from))
      return add("from",
                 fmt::format("'{}' is no folder; expected one that PEFT, mlx-lm or retort wrote", from));
    found = summary_of(open_adapter_folder(spec.from));
  } catch (const FormatError& error) { return add("from", error.what()); }
  if (found.layers == 0) return add("from", fmt::format("{} holds no low-rank adapter", from));
  if (found.rank > 1024 || !(found.alpha > 0) || found.dropout > 0.95)
    return add("from",
               fmt::format("{} has rank {}, alpha {:g}, dropout {:g}; a training goes on from ranks up "
                           "to 1024, alphas above 0 and dropout up to 0.95",
                           from, found.rank, found.alpha, found.dropout));

  const auto differs = [&](const char* key, const std::string& has, const std::string& says) {
    add(key,
        fmt::format("the adapter that it starts from ({}) has {}, found {}; leave the key out, and it is "
                    "taken from there",
                    from, has, says));
  };
  if (!written("kind")) spec.kind = found.kind;
  else if (spec.kind != found.kind) differs("kind", found.kind, spec.kind);
  if (!written("rank")) spec.rank = found.rank;
  else if (spec.rank != found.rank)
    differs("rank", fmt::format("{}", found.rank), fmt::format("{}", spec.rank));
  if (!written("alpha")) spec.alpha = found.alpha;
  else if (std::abs(spec.alpha - found.alpha) > 1e-9 * found.alpha)
    differs("alpha", fmt::format("{:g}", found.alpha), fmt::format("{:g}", spec.alpha));
  if (!written("dropout")) spec.dropout = found.dropout;
  if (!written("targets")) spec.targets = found.targets;
  if (!written("modules_to_save")) spec.modules_to_save = found.modules_to_save;
  if (!written("trainable_tokens")) {
    spec.trainable_tokens = found.trainable_tokens;
    if (!written("trainable_tokens_head")) spec.trainable_tokens_head = found.trainable_tokens_head;
  }
}

}  // namespace retort
