#include "models/text_part.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>

#include "formats/parse.h"

namespace retort {
namespace {

struct Renamed {
  std::string_view inside, plain;
};
// transformers 5 and 4.52 up; older files; older modules of PEFT. A longer beginning comes first.
constexpr std::array kNames = {
    Renamed{"model.language_model.", "model."},
    Renamed{"language_model.model.", "model."},
    Renamed{"language_model.lm_head", "lm_head"},
};

std::optional<std::string> renamed(std::string_view name) {
  for (const auto& [inside, plain] : kNames)
    if (name.starts_with(inside)) return std::string(plain) + std::string(name.substr(inside.size()));
  return std::nullopt;
}

}  // namespace

std::optional<Json> text_config(const Json& config, const std::string& file) {
  const auto section = config.find("text_config");
  if (section == config.end()) return std::nullopt;
  if (!section->is_object()) corrupt(file, "text_config", "expected a section");
  Json text = *section;
  for (const char* beside :
       {"eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings", "quantization_config"})
    if (!text.contains(beside) && config.contains(beside)) text[beside] = config[beside];
  return text;
}

size_t keep_text_part(WeightFile& file) {
  std::vector<TensorView> kept;
  for (auto& tensor : file.tensors) {
    auto name = renamed(tensor.name);
    if (!name && tensor.name.starts_with("lm_head.")) name = tensor.name;
    if (!name) continue;
    kept.push_back(tensor);
    kept.back().name = *name;
  }
  if (kept.empty())
    corrupt(file.path.string(), "",
            "config.json has a text_config, but no tensor is named model.language_model. or "
            "language_model.model.; is the download complete?");
  const auto left_out = file.tensors.size() - kept.size();
  file.tensors = std::move(kept);
  file.by_name.resize(file.tensors.size());
  std::iota(file.by_name.begin(), file.by_name.end(), 0u);
  std::sort(file.by_name.begin(), file.by_name.end(),
            [&](uint32_t a, uint32_t b) { return file.tensors[a].name < file.tensors[b].name; });
  for (size_t i = 1; i < file.by_name.size(); ++i)
    if (const auto& name = file.tensors[file.by_name[i]].name; name == file.tensors[file.by_name[i - 1]].name)
      corrupt(file.path.string(), name, "stands twice, under two names of the language model");
  return left_out;
}

std::string describe_left_out(size_t tensors) {
  return fmt::format(
      "{} tensors of the base see or hear: the language model alone is trained, evaluated and exported",
      tensors);
}

size_t count_beyond(const WeightFile& file, int64_t layers) {
  constexpr std::string_view kLayers = "model.layers.";
  return static_cast<size_t>(std::count_if(file.tensors.begin(), file.tensors.end(), [&](const auto& tensor) {
    if (!tensor.name.starts_with(kLayers)) return false;
    int64_t index = 0;
    const auto* begin = tensor.name.data() + kLayers.size();
    const auto [end, error] = std::from_chars(begin, tensor.name.data() + tensor.name.size(), index);
    return error == std::errc() && *end == '.' && index >= layers;
  }));
}

std::string describe_beyond(size_t tensors) {
  return fmt::format(
      "{} tensors of the base belong to layers behind its last, which predict further tokens (MTP): they are "
      "not read (model.mtp); export.merged: keep copies them as they are, no other export has them",
      tensors);
}

std::string describe_mtp(double weight) {
  return fmt::format(
      "the layer behind the last predicts the token after the next (MTP): its cross-entropy counts {:g} "
      "times in the loss; merged folders and PEFT adapters hold what was trained of it, GGUF files do not",
      weight);
}

std::string plain_module(std::string_view name) { return renamed(name).value_or(std::string(name)); }

std::string multimodal_module(std::string_view plain) {
  constexpr std::string_view kModel = "model.";
  if (!plain.starts_with(kModel)) return std::string(plain);
  return "model.language_model." + std::string(plain.substr(kModel.size()));
}

}  // namespace retort
