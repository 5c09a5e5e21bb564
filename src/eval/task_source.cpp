#include "eval/task_source.h"

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/hash.h"
#include "data/dataset.h"
#include "data/rows.h"

namespace retort {
namespace {

bool read_alike(const SourceSpec& a, const SourceSpec& b) {
  return a.kind == b.kind && a.prompt == b.prompt && a.completion == b.completion && a.system == b.system &&
         a.reasoning == b.reasoning && a.quotes == b.quotes && a.roles.entries == b.roles.entries &&
         a.fields_of_records.entries == b.fields_of_records.entries;
}

[[noreturn]] void refuse(const EvalTaskSpec& task, const std::string& text) {
  throw RecipeError(fmt::format("eval task '{}': {}", printable(task.label()), text));
}

// The one way in which `data` reads files of this format; nothing when it reads none.
std::optional<SourceSpec> training_source(const EvalTaskSpec& task, const DataSpec& data,
                                          const std::string& format) {
  std::optional<SourceSpec> found;
  for (const auto& source : data.sources) {
    if (source_format(source) != format) continue;
    if (found && !read_alike(*found, source))
      refuse(task, fmt::format("path: data.sources reads {} files in more than one way; say how this one is "
                               "read with source: {{path: ..., prompt: ..., completion: ..., system: ...}}",
                               format));
    if (!found) found = source;
  }
  return found;
}

// Runs `work`; what it says of data.sources[0] is about the task's own source.
template <class Work> auto named_after(const EvalTaskSpec& task, Work work) {
  try {
    return work();
  } catch (const RecipeError& error) {
    std::string text = error.what();
    constexpr std::string_view kPlace = "data.sources[0]";
    if (const auto at = text.find(kPlace); at != std::string::npos) text.replace(at, kPlace.size(), "source");
    refuse(task, text);
  }
}

DataSpec data_of(const EvalTaskSpec& task, const DataSpec& data) {
  auto own = data;
  own.sources = {task_source(task, data)};
  own.held_out = {0, 0};
  own.cache.clear();
  own.near_duplicates.remove = false;  // what is asked is what the file holds
  own.personal_data = "report";
  own.canaries.count = 0;
  return own;
}

}  // namespace

bool has_own_records(const EvalTaskSpec& task) { return !task.path.empty() || task.source.has_value(); }

SourceSpec task_source(const EvalTaskSpec& task, const DataSpec& data) {
  if (task.source) {
    const auto& source = *task.source;
    if (!task.path.empty()) refuse(task, "path and source are both set; put the path into source");
    if (task.kind != "perplexity" && task.kind != "completion")
      refuse(task, fmt::format("source: {} reads question files; name one with path", task.kind));
    if (source.weight != 1 || source.use != "both" || !source.group.empty())
      refuse(task, "source: weight, use and group are for training; an evaluation uses every record once");
    return source;
  }
  SourceSpec source;
  source.path = task.path;
  if (const auto like = training_source(task, data, source_format(source))) {
    source.kind = like->kind;
    source.prompt = like->prompt;
    source.completion = like->completion;
    source.system = like->system;
    source.reasoning = like->reasoning;
    source.quotes = like->quotes;
    source.roles = like->roles;
    source.fields_of_records = like->fields_of_records;
  }
  return source;
}

std::vector<Record> task_records(const EvalTaskSpec& task, const DataSpec& data) {
  const auto own = data_of(task, data);
  auto records = named_after(task, [&] { return read_records(own); });
  if (task.limit > 0 && static_cast<int64_t>(records.size()) > task.limit)
    records.resize(static_cast<size_t>(task.limit));
  return records;
}

std::vector<Sample> task_samples(const EvalTaskSpec& task, const DataSpec& data, const Tokenizer& tokenizer,
                                 const ChatTemplate& chat, int64_t row_tokens) {
  const auto records = task_records(task, data);
  auto own = data_of(task, data);
  if (!records.empty() && records[0].messages.empty()) {  // long texts are read in pieces of one pass
    own.length = "split";
    own.sample_tokens = row_tokens;
  }
  return named_after(task, [&] { return build_dataset(own, records, tokenizer, chat).train.list(); });
}

std::string task_files_hash(const EvalSpec& spec) {
  Sha256 hash;
  const auto add = [&](const std::string& file) { hash.add(file + "\n" + sha256_file(file) + "\n"); };
  for (const auto& task : spec.tasks) {
    const auto add_files = [&](const std::string& path) {
      SourceSpec source;
      source.path = path;
      for (const auto& file : source_files(source)) add(file);
    };
    if (!task.path.empty()) add_files(task.path);
    if (task.few_shot > 0 && !task.examples.empty()) add_files(task.examples);
    if (task.source)
      for (const auto& file : source_files(*task.source)) add(file);
    if (task.scored_by)  // with the files that it names: [python3, score.py]
      for (const auto& word : task.scored_by->command) {
        hash.add(word + "\n");
        if (std::filesystem::is_regular_file(word)) add(word);
      }
  }
  return hash.hex();
}

}  // namespace retort
