#include "models/weight_hash.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/parcel.h"
#include "formats/weight_file.h"
#include "models/text_part.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

using Hashes = std::map<std::string, std::string>;  // of each file, by its name in the folder

std::string joined(const Hashes& hashes) {
  if (hashes.size() == 1) return hashes.begin()->second;
  std::string lines;
  for (const auto& [name, hash] : hashes) lines += hash + "  " + name + "\n";
  return sha256(lines);
}

// "model.layers.7." of a folder, "blk.7." of a GGUF file; -1: of no layer.
int64_t layer_of(std::string_view tensor) {
  for (const std::string_view begin : {"model.layers.", "blk."}) {
    if (!tensor.starts_with(begin)) continue;
    int64_t layer = -1;
    std::from_chars(tensor.data() + begin.size(), tensor.data() + tensor.size(), layer);
    return layer;
  }
  return -1;
}

// Whose tensors each file holds: layers, or -1.
std::map<fs::path, std::set<int64_t>> layers_by_file(const LoadedModel& loaded) {
  auto file = fs::is_directory(loaded.path) ? open_safetensors_folder(loaded.path) : open_gguf(loaded.path);
  if (loaded.multimodal) keep_text_part(file);
  std::map<fs::path, std::set<int64_t>> layers;
  for (const auto& tensor : file.tensors) layers[tensor.file->name()].insert(layer_of(tensor.name));
  return layers;
}

bool reads(const std::set<int64_t>& layers, int64_t rank, const std::vector<Share>& layers_of_ranks) {
  const auto last = layers_of_ranks.empty() ? 0 : layers_of_ranks.back().end;
  const bool beyond = *layers.begin() >= last;  // which nobody computes
  if (layers.contains(-1) || (beyond && rank == 0)) return true;
  if (rank >= static_cast<int64_t>(layers_of_ranks.size())) return false;
  const auto own = layers_of_ranks[static_cast<size_t>(rank)];
  const auto first = layers.lower_bound(own.begin);
  return first != layers.end() && *first < own.end;
}

}  // namespace

Later<std::string> hash_of(const WeightFile& file) {
  std::set<std::string> names;
  for (const auto& tensor : file.tensors) names.insert(tensor.file->name());
  return Later<std::string>::of([names] {
    Hashes hashes;
    for (const auto& name : names) hashes[fs::path(name).filename().string()] = sha256_file(name);
    return joined(hashes);
  });
}

std::optional<std::string> hash_by_ranks(Peers& peers, const LoadedModel& loaded,
                                         const std::vector<Share>& layers_of_ranks) {
  Hashes mine;
  std::set<std::string> files;
  const bool done = done_by_all(peers, [&] {
    for (const auto& [file, layers] : layers_by_file(loaded)) {
      const auto name = file.filename().string();
      files.insert(name);
      if (reads(layers, peers.rank(), layers_of_ranks)) mine[name] = sha256_file(file);
    }
  });
  if (!done) return std::nullopt;
  Parcel parcel;
  parcel.put(mine.size());
  for (const auto& [name, hash] : mine) parcel.put(name).put(hash);
  Hashes all;
  auto texts = gather_texts(peers, parcel.bytes());
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    Parcel theirs(std::move(texts[rank]));
    for (auto left = theirs.take<size_t>(); left > 0; --left) {
      const auto name = theirs.take<std::string>(), hash = theirs.take<std::string>();
      if (!files.contains(name))
        throw RecipeError(fmt::format("{} reads {}, which is no file of {}'s model; all ranks need the same",
                                      peers.name(static_cast<int64_t>(rank)), printable(name),
                                      peers.name(0)));
      if (all.emplace(name, hash).first->second != hash)
        throw RecipeError(
            fmt::format("{}: {} is not the file that another rank has under this name (SHA-256 "
                        "{}, another rank's {}); all ranks need the same model",
                        peers.name(static_cast<int64_t>(rank)), printable(name), hash, all.at(name)));
    }
  }
  return broadcast_text(peers, 0, peers.rank() == 0 ? joined(all) : "");
}

}  // namespace retort
