#include "data/saved_dataset.h"

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr const char *kState = "state.json", *kSplits = "dataset_dict.json";
constexpr size_t kLongest = size_t{16} << 20;

Json object_of(const fs::path& file) {
  auto object = parse_json(read_text(file, kLongest), file.string());
  if (!object.is_object()) corrupt(file.string(), "", "expected a JSON object");
  return object;
}

const std::string& text_of(const Json& value, const fs::path& file, const char* key) {
  if (!value.is_string()) corrupt(file.string(), key, "expected a text");
  return value.get_ref<const std::string&>();
}

// A selection or another order that was kept beside the rows instead of in them.
void require_all_rows(const Json& state, const fs::path& file) {
  for (const char* key : {"_indices_data_files", "_indices_files"})
    if (const auto found = state.find(key); found != state.end() && !found->is_null() && !found->empty())
      corrupt(file.string(), key,
              "the rows are chosen by a table of their own, which is not read; save the data set after "
              "flatten_indices()");
}

std::vector<std::string> parts_of(const fs::path& folder) {
  const auto file = folder / kState;
  const auto state = object_of(file);
  require_all_rows(state, file);
  const auto listed = state.find("_data_files");
  if (listed == state.end() || !listed->is_array() || listed->empty())
    corrupt(file.string(), "_data_files", "expected the list of the files that hold the rows");
  std::vector<std::string> files;
  for (const auto& part : *listed) {
    const auto name = part.is_object() ? part.find("filename") : part.end();
    if (!part.is_object() || name == part.end())
      corrupt(file.string(), "_data_files", "expected objects with a filename");
    files.push_back(file_beneath(folder, text_of(*name, file, "filename")).string());
  }
  return files;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + printable(name);
  return text;
}

std::vector<std::string> splits_of(const fs::path& folder) {
  const auto file = folder / kSplits;
  const auto object = object_of(file);
  const auto found = object.find("splits");
  if (found == object.end() || !found->is_array() || found->empty())
    corrupt(file.string(), "splits", "expected the list of splits");
  std::vector<std::string> splits;
  for (const auto& split : *found) {
    splits.push_back(text_of(split, file, "splits"));
    if (!is_plain_name(splits.back())) corrupt(file.string(), splits.back(), "is no name of a folder");
  }
  return splits;
}

}  // namespace

bool is_saved_dataset(const fs::path& folder) {
  return fs::exists(folder / kSplits) ||
         (fs::exists(folder / kState) && fs::exists(folder / "dataset_info.json"));
}

std::vector<std::string> saved_dataset_files(const fs::path& folder, const std::string& split) {
  const auto shown = printable(folder.string());
  if (!fs::exists(folder / kSplits)) {
    const auto state = object_of(folder / kState);
    const auto own = state.find("_split");
    const auto name = own != state.end() && own->is_string() ? own->get<std::string>() : std::string();
    if (!split.empty() && split != name)
      throw RecipeError(fmt::format("data.sources.split: {} holds one split, {}; '{}' is asked for", shown,
                                    name.empty() ? "without a name" : "'" + printable(name) + "'",
                                    printable(split)));
    return parts_of(folder);
  }
  const auto splits = splits_of(folder);
  if (split.empty() && splits.size() > 1)
    throw RecipeError(
        fmt::format("data.sources.path: {} holds the splits {}; say which is read, as split: {}", shown,
                    listed(splits), printable(splits[0])));
  for (const auto& name : splits)
    if (split.empty() || name == split) return parts_of(folder / name);
  const auto near = nearest(split, splits);
  throw RecipeError(fmt::format("data.sources.split: {} has no split '{}'{}; there are {}", shown,
                                printable(split), near.empty() ? "" : "; did you mean '" + near + "'?",
                                listed(splits)));
}

}  // namespace retort
