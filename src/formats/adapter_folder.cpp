#include "formats/adapter_folder.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "formats/mlx_adapter.h"

namespace retort {
namespace {

// "model.language_model.norm" of a multimodal model is "model.norm" of its language model.
std::string of_language_model(std::string name) {
  constexpr std::string_view kPart = "language_model.";
  if (const auto at = name.find(kPart); at != std::string::npos) name.erase(at, kPart.size());
  return name;
}

std::string last_word(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// The number behind "layers." in a module's name; -1 where there is none.
int64_t layer_of(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const auto at = name.find(kLayers);
  int64_t number = -1;
  if (at != std::string::npos)
    std::from_chars(name.data() + at + kLayers.size(), name.data() + name.size(), number);
  return number;
}

// The layer behind the last, which predicts the token after the next: that of eh_proj, where its attention is
// adapted too. -1: there is none.
int64_t mtp_layer_of(const PeftAdapter& adapter) {
  int64_t layer = -1;
  for (const auto& module : adapter.modules)
    if (last_word(module.name) == "eh_proj") layer = layer_of(module.name);
  const bool attends = std::any_of(adapter.modules.begin(), adapter.modules.end(), [&](const auto& module) {
    return layer_of(module.name) == layer && module.name.find(".self_attn.") != std::string::npos;
  });
  return attends ? layer : -1;
}

// An expert's matrices of what adapts all of a layer: "experts.3.gate_proj".
void add_experts(const PeftStack& stack, std::vector<std::string>& targets) {
  const bool both = last_word(stack.name) == "gate_up_proj";
  for (int64_t e = 0; e < stack.a->shape[0] / stack.rank; ++e)
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      const auto target = fmt::format("experts.{}.{}", e, part);
      if (both == (std::string_view(part) != "down_proj") &&
          std::find(targets.begin(), targets.end(), target) == targets.end())
        targets.push_back(target);
    }
}

// "q_proj" where every layer from the first to the last has one, otherwise each module by its whole name;
// "mtp" for the layer behind the last.
std::vector<std::string> targets_of(const PeftAdapter& adapter) {
  std::map<std::string, std::set<int64_t>> layers;
  int64_t last = -1;
  const auto mtp = mtp_layer_of(adapter);
  for (const auto& module : adapter.modules) {
    const auto layer = layer_of(module.name);
    if (mtp >= 0 && layer == mtp) continue;
    layers[last_word(module.name)].insert(layer);
    last = std::max(last, layer);
  }
  std::vector<std::string> targets;
  for (const auto& module : adapter.modules) {
    const auto word = last_word(module.name);
    const auto& found = layers[word];
    const bool everywhere =
        !found.empty() && !found.contains(-1) && static_cast<int64_t>(found.size()) == last + 1;
    const bool behind = mtp >= 0 && layer_of(module.name) == mtp;
    if (behind && std::find(targets.begin(), targets.end(), "mtp") == targets.end())
      targets.emplace_back("mtp");
    if (behind && module.name.find(".self_attn.") != std::string::npos) continue;
    const auto target = everywhere ? word : of_language_model(module.name);
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
  }
  for (const auto& stack : adapter.stacks) add_experts(stack, targets);
  return targets;
}

}  // namespace

PeftAdapter open_adapter_folder(const std::filesystem::path& folder) {
  return is_mlx_adapter(folder) ? open_mlx_adapter(folder) : open_peft_folder(folder);
}

AdapterSummary summary_of(const PeftAdapter& adapter) {
  const auto& config = adapter.config;
  AdapterSummary summary;
  summary.kind = config.use_dora ? "dora" : config.use_rslora ? "rslora" : "lora";
  summary.rank = config.r, summary.alpha = config.lora_alpha, summary.dropout = config.lora_dropout;
  // A recipe's DoRA is scaled by alpha / rank.
  if (config.use_dora && config.use_rslora)
    summary.alpha = config.lora_alpha * std::sqrt(static_cast<double>(config.r));
  summary.targets = targets_of(adapter);
  for (const auto& saved : adapter.saved) {
    const auto module = of_language_model(saved.name.substr(0, saved.name.rfind('.')));
    auto& all = summary.modules_to_save;
    if (std::find(all.begin(), all.end(), module) == all.end()) all.push_back(module);
  }
  for (const auto& rows : adapter.rows) {
    auto ids = rows.ids;
    std::sort(ids.begin(), ids.end());
    summary.trainable_tokens.clear();
    for (const auto id : ids) summary.trainable_tokens.push_back(fmt::format("{}", id));
    summary.trainable_tokens_head = summary.trainable_tokens_head || last_word(rows.name) == "lm_head";
  }
  summary.layers = static_cast<int64_t>(adapter.modules.size());
  for (const auto& stack : adapter.stacks)
    summary.layers += stack.a->shape[0] / stack.rank * (last_word(stack.name) == "gate_up_proj" ? 2 : 1);
  for (const auto& tensor : adapter.file->tensors)
    summary.elements += static_cast<int64_t>(tensor.elements());
  for (const auto& base : adapter.bases) summary.elements -= static_cast<int64_t>(base.tensor->elements());
  return summary;
}

std::vector<std::filesystem::path> adapter_files(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    if (!std::filesystem::exists(path)) corrupt(path.string(), "", "no such adapter folder or file");
    return {path};
  }
  std::vector<std::filesystem::path> files;
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "adapters.safetensors"})
    if (std::filesystem::exists(path / name)) files.push_back(path / name);
  return files;
}

}  // namespace retort
