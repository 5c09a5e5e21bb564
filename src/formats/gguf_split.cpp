// Split GGUF files: NAME-00001-of-00003.gguf and its siblings (llama.cpp, gguf-split). The first holds all
// metadata; each states split.no (from 0), split.count and split.tensors.count (of the whole model).
#include <algorithm>

#include "formats/parse.h"

namespace retort {
namespace {

struct Split {
  int64_t number = 0, count = 1, tensors = 0;
};

Split split_of(const WeightFile& weights) {
  const auto* count = weights.metadata("split.count");
  if (!count) return {};
  const auto field = [&](const char* key) {
    const auto value = whole_number(weights.metadata(key));
    if (!value || *value < 0) corrupt(weights.path.string(), key, "is missing or not a whole number from 0");
    return *value;
  };
  const Split split{field("split.no"), field("split.count"), field("split.tensors.count")};
  if (split.count > 99999)
    corrupt(weights.path.string(), "split.count",
            fmt::format("is {}; at most 99999 are possible", split.count));
  if (split.count > 0 && split.number >= split.count)
    corrupt(weights.path.string(), "split.no",
            fmt::format("is {}; expected less than split.count, {}", split.number, split.count));
  return split;
}

WeightFile open_one(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  auto weights = as_weight_file(file, parse_gguf(file->bytes(), file->name()));
  file->require_unchanged();
  return weights;
}

std::string shard_suffix(int64_t number, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

}  // namespace

WeightFile open_gguf(const std::filesystem::path& path) {
  auto opened = open_one(path);
  const auto split = split_of(opened);
  if (split.count <= 1) {
    index_names(opened);
    return opened;
  }
  const auto name = path.filename().string(), suffix = shard_suffix(split.number, split.count);
  if (!name.ends_with(suffix))
    corrupt(path.string(), "split.no",
            fmt::format("says shard {} of {}; expected a file name that ends in '{}'", split.number + 1,
                        split.count, suffix));
  const auto prefix = name.substr(0, name.size() - suffix.size());
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");

  WeightFile whole;
  for (int64_t number = 0; number < split.count; ++number) {
    auto part = number == split.number
                    ? std::exchange(opened, {})
                    : open_one(file_beneath(folder, prefix + shard_suffix(number, split.count)));
    const auto own = split_of(part);
    if (own.number != number || own.count != split.count || own.tensors != split.tensors)
      corrupt(part.path.string(), "split",
              fmt::format("is shard {} of {} with {} tensors in all; expected shard {} of {} with {}; is it "
                          "another model's?",
                          own.number + 1, own.count, own.tensors, number + 1, split.count, split.tensors));
    if (number == 0) {
      whole.gguf_metadata = std::move(part.gguf_metadata);
    } else {
      for (const auto& [key, value] : part.gguf_metadata) {
        if (key.starts_with("split.")) continue;
        const auto* first = whole.metadata(key);
        if (first && *first != value)
          corrupt(part.path.string(), key, "differs from the first shard's; is it another model's?");
      }
    }
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(whole.tensors));
  }
  whole.path = path;
  if (static_cast<int64_t>(whole.tensors.size()) != split.tensors)
    corrupt(path.string(), "split.tensors.count",
            fmt::format("promises {} tensors, the {} shards hold {}", split.tensors, split.count,
                        whole.tensors.size()));
  index_names(whole);
  return whole;
}

}  // namespace retort
