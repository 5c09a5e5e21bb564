// A Hugging Face folder: model.safetensors alone, or model.safetensors.index.json and the shards it names.
#include <algorithm>
#include <set>

#include "formats/parse.h"

namespace retort {
namespace {

constexpr auto kSingle = "model.safetensors";
constexpr auto kIndex = "model.safetensors.index.json";

bool holds(const std::filesystem::path& folder, const char* name) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(folder / name, error));
}

[[noreturn]] void report_missing(const std::filesystem::path& folder) {
  for (const auto* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin",
                             "model.pt", "consolidated.00.pth"})
    if (holds(folder, pickle))
      corrupt(folder.string(), "",
              fmt::format("holds weights only as a pickle ({}), which runs code and is never opened; convert "
                          "it to safetensors",
                          pickle));
  corrupt(folder.string(), "",
          fmt::format("holds neither {} nor {}; expected a Hugging Face folder with config.json and "
                      "safetensors, or name a .gguf file",
                      kSingle, kIndex));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                         std::string_view name) {
  const auto index = parse_json(text, name);  // refuses a tensor that stands twice
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    corrupt(name, "weight_map", "is missing or not an object of tensor name -> file name");
  std::vector<std::pair<std::string, std::string>> entries;
  entries.reserve(index["weight_map"].size());
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) corrupt(name, tensor, "its shard is not a file name");
    const auto& file = shard.get_ref<const std::string&>();
    if (!is_plain_name(file))
      corrupt(name, tensor, fmt::format("its shard '{}' is not a plain file name", printable(file)));
    entries.emplace_back(tensor, file);
  }
  return entries;
}

WeightFile open_safetensors_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) corrupt(folder.string(), "", "is not a folder");
  const bool single = holds(folder, kSingle), sharded = holds(folder, kIndex);
  if (single && !sharded) return open_safetensors(file_beneath(folder, kSingle));
  if (!sharded) report_missing(folder);

  const MappedFile index(file_beneath(folder, kIndex));
  const auto entries = parse_safetensors_index(index.text(), index.name());
  std::map<std::string, size_t> promised;  // shard -> tensors that the index places there
  for (const auto& [tensor, shard] : entries) ++promised[shard];
  if (single && (promised.size() != 1 || !promised.contains(kSingle)))
    corrupt(folder.string(), "",
            fmt::format("holds both {} and {}, which names other files; remove the one that is stale",
                        kSingle, kIndex));

  WeightFile weights;
  weights.path = folder;
  std::map<std::string, const MappedFile*> opened;
  for (const auto& [shard, count] : promised) {
    auto part = open_safetensors(file_beneath(folder, shard));
    if (part.tensors.empty())
      corrupt(part.path.string(), "", fmt::format("holds no tensors; the index promises {}", count));
    opened[shard] = part.tensors.front().file.get();
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(weights.tensors));
    weights.safetensors_metadata.merge(part.safetensors_metadata);
  }
  index_names(weights);  // refuses a tensor that is in two shards
  for (const auto& [tensor, shard] : entries) {
    const auto* found = weights.find(tensor);
    if (!found)
      corrupt(index.name(), tensor,
              fmt::format("the index places it in {}, but no shard holds it", printable(shard)));
    if (found->file.get() != opened[shard])
      corrupt(index.name(), tensor,
              fmt::format("the index places it in {}, but it is in {}", printable(shard),
                          printable(found->file->name())));
  }
  if (weights.tensors.size() != entries.size()) {
    std::set<std::string_view> known;
    for (const auto& entry : entries) known.insert(entry.first);
    for (const auto& tensor : weights.tensors)
      if (!known.contains(tensor.name))
        corrupt(tensor.file->name(), tensor.name, "this tensor is missing from the index");
  }
  index.require_unchanged();
  return weights;
}

}  // namespace retort
