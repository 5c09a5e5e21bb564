// safetensors as the reference writer lays it out (tensor.rs, serialize): sorted by dtype (largest rank
// first), then by name; header padded with spaces to a multiple of 8, so that every tensor starts at a
// multiple of its element size.
#include <algorithm>
#include <numeric>
#include <set>

#include "formats/parse.h"

namespace retort {
namespace {

// The reference's enum order: its place here is the rank that it sorts by.
int dtype_rank(std::string_view dtype) {
  constexpr std::string_view kOrder[] = {"BOOL",    "F4",      "F6_E2M3", "F6_E3M2",     "U8",          "I8",
                                         "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",
                                         "U16",     "F16",     "BF16",    "I32",         "U32",         "F32",
                                         "C64",     "F64",     "I64",     "U64"};
  return static_cast<int>(std::find(std::begin(kOrder), std::end(kOrder), dtype) - std::begin(kOrder));
}

std::string quoted(std::string_view text, const std::filesystem::path& file) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    corrupt(file.string(), text, "is not valid UTF-8, which a JSON header needs");
  }
}

constexpr auto kIndex = "model.safetensors.index.json";

// Weight files that an earlier export left under names of ours, except those in `kept`.
void remove_stale(const std::filesystem::path& folder, const std::set<std::string>& kept) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    const bool ours = name == kIndex || name == "model.safetensors" ||
                      (name.starts_with("model-") && name.ends_with(".safetensors") &&
                       name.find("-of-") != std::string::npos);
    if (ours && !kept.contains(name)) std::filesystem::remove(entry.path());
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto sizes = sizes_to_write(path, tensors);
  for (const auto& tensor : tensors) {
    if (type_info(tensor.type).safetensors.empty())
      corrupt(path.string(), tensor.name,
              fmt::format("safetensors has no dtype for {}; write GGUF, or a dense type",
                          type_info(tensor.type).name));
    if (tensor.name == "__metadata__" || tensor.name.empty())
      corrupt(path.string(), tensor.name, "is not a tensor's name");
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int rank_a = dtype_rank(type_info(tensors[a].type).safetensors),
              rank_b = dtype_rank(type_info(tensors[b].type).safetensors);
    return rank_a != rank_b ? rank_a > rank_b : tensors[a].name < tensors[b].name;
  });

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata)
      header +=
          fmt::format("{}{}:{}", header.back() == '{' ? "" : ",", quoted(key, path), quoted(value, path));
    header += "}";
  }
  uint64_t offset = 0;
  for (const auto i : order) {
    const auto& tensor = tensors[i];
    const auto begin = offset;
    if (!add(offset, sizes[i], offset))
      corrupt(path.string(), tensor.name, "the file's size overflows 64 bits");
    header += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          header.size() == 1 ? "" : ",", quoted(tensor.name, path),
                          type_info(tensor.type).safetensors, fmt::join(tensor.shape, ","), begin, offset);
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');

  AtomicFile file(path);
  require_space(path.has_parent_path() ? path.parent_path() : ".",
                8 + header.size() + offset - bytes_of_holes(tensors, sizes));
  const uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const auto i : order) write_tensor(file, tensors[i], sizes[i]);
  file.commit();
}

void write_safetensors_folder(const std::filesystem::path& folder, const std::vector<TensorSource>& tensors,
                              uint64_t shard_bytes) {
  const auto sizes = sizes_to_write(folder, tensors);
  std::vector<std::vector<TensorSource>> shards(1);
  uint64_t filled = 0, total = 0, parameters = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!shards.back().empty() && (sizes[i] > shard_bytes || filled > shard_bytes - sizes[i])) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensors[i]);
    filled += sizes[i];
    total += sizes[i];
    parameters += static_cast<uint64_t>(
        std::accumulate(tensors[i].shape.begin(), tensors[i].shape.end(), int64_t{1}, std::multiplies<>()));
  }
  make_folder(folder);
  require_space(folder, total - bytes_of_holes(tensors, sizes));
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  std::set<std::string> written;
  if (shards.size() == 1) {
    write_safetensors(folder / "model.safetensors", tensors, metadata);
    written.insert("model.safetensors");
  } else {
    Json index = {{"metadata", {{"total_size", total}, {"total_parameters", parameters}}},
                  {"weight_map", Json::object()}};
    for (size_t i = 0; i < shards.size(); ++i) {
      const auto name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
      write_safetensors(folder / name, shards[i], metadata);
      written.insert(name);
      for (const auto& tensor : shards[i]) index["weight_map"][tensor.name] = name;
    }
    write_text(folder / kIndex, index.dump(2) + "\n");
    written.insert(kIndex);
  }
  remove_stale(folder, written);
}

}  // namespace retort
