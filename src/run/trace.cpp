#include "run/trace.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "recipe/recipe.h"
#include "report/manifest.h"
#include "run/run_stages.h"
#include "train/run_log.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

// Which steps took the samples [first, first + count) of any of the records.
void add_steps(const fs::path& file, std::vector<TracedRecord>& records, int64_t& steps) {
  if (!fs::exists(file)) return;
  const MappedFile mapped(file);
  auto text = mapped.text();
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    std::vector<int64_t> numbers;  // step, epoch, samples
    for (const char *at = line.data(), *stop = line.data() + line.size(); at < stop; ++at) {
      int64_t value = 0;
      const auto [next, error] = std::from_chars(at, stop, value);
      if (error != std::errc()) break;
      numbers.push_back(value);
      at = next;
    }
    if (numbers.size() < 3) continue;
    steps = std::max(steps, numbers[0]);
    for (auto& traced : records) {
      const auto& record = traced.record;
      auto& learned = traced.learned;
      const bool taken = std::any_of(numbers.begin() + 2, numbers.end(), [&](int64_t sample) {
        return sample >= record.first && sample < record.first + record.samples;
      });
      if (!taken) continue;
      learned.steps.push_back(numbers[0]);
      if (learned.epochs.empty() || learned.epochs.back() != numbers[1]) learned.epochs.push_back(numbers[1]);
    }
  }
}

// The first two parts of a path inside of the run: "export/adapter", "checkpoints/step-00000004".
std::string thing_of(const std::string& path) {
  const auto first = path.find('/');
  if (first == std::string::npos) return path;
  return path.substr(0, path.find('/', first + 1));
}

template <class Wanted> std::vector<std::string> things(const fs::path& folder, Wanted wanted) {
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto thing = thing_of(entry.path().lexically_relative(folder).string());
    if (wanted(thing)) found.insert(thing);
  }
  return {found.begin(), found.end()};
}

bool scores_any(const fs::path& file, const std::vector<TracedRecord>& records) {
  for (const auto& task : read_tasks(file)) {
    if (task.kind != "membership") continue;
    for (const auto& sample : task.samples)
      for (const auto& traced : records)
        if (is_made_of(sample.id, traced.record.place)) return true;
  }
  return false;
}

}  // namespace

bool Sought::fits(const ListedRecord& record) const {
  if (!group.empty() && record.group == group) return true;
  if (!place.empty() && record.place == place) return true;
  return records.contains(record.hash);
}

std::map<std::string, std::string> hashes_in_file(const fs::path& file, const fs::path& run_folder) {
  const auto recipe_file = run_folder / "recipe.yaml";
  const auto loaded = parse_recipe(read_text(recipe_file), recipe_file.string());
  std::map<std::string, std::string> hashes;
  std::string problem;
  for (const auto& source : loaded.recipe.data.sources) {
    auto like = source;
    like.path = file.string();
    like.format = fs::path(source.path).extension() == file.extension() ? source.format : "auto";
    like.split.clear(), like.group.clear();
    like.limit = 0;
    like.reject.reset();
    try {
      const std::vector<SourceSpec> sources = {like};
      SourceFiles(sources).pass(nullptr, [&](int64_t, Record record) -> RecordSource::Later {
        return [&, hash = record_hash(record), place = record.place] { hashes.emplace(hash, place); };
      });
    } catch (const Error& error) {
      if (error.code != Exit::bad_input) throw;
      problem = error.what();
    }
  }
  if (hashes.empty())
    throw RecipeError(fmt::format("{}: no record can be read from it as the sources of {} are read{}",
                                  printable(file.string()), printable(run_folder.string()),
                                  problem.empty() ? "" : ": " + problem));
  return hashes;
}

Trace trace_records(const fs::path& run_folder, const Sought& sought) {
  const auto list = run_folder / kRecordsFile;
  if (!fs::exists(list))
    corrupt(run_folder.string(), "",
            fmt::format(
                "holds no {}: it is no run, or one that an earlier version of retort made, or its samples "
                "are not prepared yet",
                kRecordsFile));
  Trace trace;
  read_record_list(list, [&](const ListedRecord& record) {
    ++trace.listed;
    if (sought.fits(record)) trace.records.push_back({record, {}});
  });
  add_steps(run_folder / kBatchesFile, trace.records, trace.steps);
  trace.rounds = fs::exists(run_folder / "round-00");
  trace.weights = things(run_folder, [](const std::string& thing) {
    return thing == "trained.safetensors" || thing.starts_with("export/") ||
           thing.starts_with("checkpoints/") || thing.ends_with("/trained.safetensors") ||
           thing.ends_with("/checkpoints");
  });
  trace.token_ids = things(run_folder, [](const std::string& thing) {
    return thing == "tokens.h5" || thing.starts_with("teacher/") || thing.ends_with("/teacher");
  });
  trace.answers = things(run_folder, [](const std::string& thing) {
    return thing.starts_with("eval/") && thing.ends_with(".json");
  });
  if (!trace.records.empty())
    for (const auto& file : trace.answers)
      if (scores_any(run_folder / file, trace.records)) trace.members.push_back(file);
  return trace;
}

std::vector<std::string> read_from(const fs::path& run_folder, const fs::path& from) {
  std::set<std::string> written;
  for (const auto& record : read_manifest(from).written)
    if (record.path.ends_with(".safetensors") || record.path.ends_with(".gguf"))
      written.insert(record.sha256);
  std::vector<std::string> found;
  for (const auto& record : read_manifest(run_folder).read)
    if (written.contains(record.sha256)) found.push_back(record.path);
  return found;
}

}  // namespace retort
