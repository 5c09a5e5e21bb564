#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/random.h"
#include "data/json_records.h"
#include "data/readers.h"
#include "data/reject.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

std::string format_of(const SourceSpec& source) {
  if (source.format != "auto") return source.format;
  const auto ending = fs::path(source.path).extension().string();
  if (ending == ".jsonl" || ending == ".ndjson") return "jsonl";
  if (ending == ".csv" || ending == ".tsv") return "csv";
  if (ending == ".txt") return "text";
  if (ending == ".xml") return "icd10cm";
  throw RecipeError(fmt::format("data.sources.format: '{}' does not say how it is read; set format to jsonl, csv, text, lines, icd10cm or licences",
                                printable(source.path)));
}

uint64_t hash_number(std::string_view hex) { return std::stoull(std::string(hex.substr(0, 16)), nullptr, 16); }

// One source's rows on their way to records.
class Collector {
 public:
  Collector(const SourceSpec& source, int32_t index) : source_(source), index_(index), where_(fmt::format("data.sources[{}]", index)) {
    if (source.prompt.empty() != source.completion.empty())
      throw RecipeError(where_ + ": prompt and completion are set together or not at all");
    if (source.kind != "auto" && source.kind != "columns" && !source.prompt.empty())
      throw RecipeError(where_ + ".kind: prompt and completion are set, so kind is 'columns'; found '" + source.kind + "'");
    if (source.kind == "columns" && source.prompt.empty()) throw RecipeError(where_ + ".prompt: kind 'columns' needs prompt and completion");
    if (source.reject) judge_.emplace(*source.reject, where_);
  }

  void add_json(const Json& object, std::string place) {
    if (!source_.prompt.empty()) return add_columns(json_columns(object), std::move(place));
    if (kind_.empty()) kind_ = source_.kind == "auto" ? recognised_kind(object, place) : source_.kind;
    Record record = blank(json_columns(object), std::move(place));
    fill_from_json(object, kind_, record);
    finish(std::move(record));
  }

  void add_columns(Columns columns, std::string place) {
    Record record = blank(std::move(columns), std::move(place));
    if (!source_.prompt.empty()) {
      record.messages = {{"user", fill_placeholders(source_.prompt, record.columns, where_ + ".prompt")},
                         {"assistant", fill_placeholders(source_.completion, record.columns, where_ + ".completion")}};
    } else {  // the same kinds as JSON, by column names
      Json object = Json::object();
      for (const auto& [name, value] : record.columns) object[name] = value;
      if (kind_.empty()) kind_ = source_.kind == "auto" ? recognised_kind(object, record.place) : source_.kind;
      fill_from_json(object, kind_, record);
    }
    finish(std::move(record));
  }

  void add_text(std::string text, std::string place) {
    if (!source_.prompt.empty()) return add_columns({{"text", std::move(text)}}, std::move(place));
    Record record = blank({}, std::move(place));
    record.text = std::move(text);
    finish(std::move(record));
  }

  std::vector<Record> take(std::vector<RejectionCounts>* rejections) {
    if (judge_ && records_.empty()) throw RecipeError(fmt::format("{}.reject: nothing is left: {}", where_, describe(counts_)));
    if (judge_ && rejections) rejections->push_back(counts_);
    return std::move(records_);
  }

 private:
  Record blank(Columns columns, std::string place) const {
    Record record;
    record.columns = std::move(columns);
    record.place = std::move(place);
    record.source = index_;
    if (!source_.group.empty()) record.group = fill_placeholders(source_.group, record.columns, where_ + ".group");
    return record;
  }

  void finish(Record record) {
    if (record.messages.empty()) {
      if (trimmed(record.text).empty() && !judge_) corrupt(record.place, "text", "is empty");
      return keep(std::move(record));
    }
    if (!source_.system.empty() && record.messages[0].role != "system")
      record.messages.insert(record.messages.begin(), {"system", fill_placeholders(source_.system, record.columns, where_ + ".system")});
    if (record.messages.back().role != "assistant")
      corrupt(record.place, "", "the conversation ends with a " + record.messages.back().role + " message; expected an assistant's answer to learn from");
    // A model may have said nothing: that is for the judge.
    for (const auto& message : record.messages)
      if (trimmed(message.content).empty() && !(judge_ && &message == &record.messages.back())) corrupt(record.place, message.role, "this message is empty");
    keep(std::move(record));
  }

  void keep(Record record) {
    if (judge_) {
      ++counts_.records;
      if (const auto why = judge_->judge(record)) {
        ++counts_.rejected[static_cast<size_t>(*why)];
        return;
      }
    }
    records_.push_back(std::move(record));
  }

  const SourceSpec& source_;
  int32_t index_;
  std::string where_, kind_;
  std::optional<Judge> judge_;
  RejectionCounts counts_{source_.path};
  std::vector<Record> records_;
};

void read_text_lines(std::string_view content, std::string_view file, Collector& collector) {
  content = without_bom(content);
  size_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    auto line = content.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (trimmed(line).empty()) continue;
    const auto place = fmt::format("{}:{}", file, number);
    if (line.size() > kLongestLine) corrupt(place, "", "line of " + bytes(line.size()) + "; at most " + bytes(kLongestLine) + " are read");
    require_text(line, place, "");
    collector.add_text(std::string(line), place);
  }
}

// Keeps `limit` of the records, chosen by hash and delivered in file order.
void keep_some(std::vector<Record>& records, int64_t limit, uint64_t seed) {
  if (limit <= 0 || static_cast<size_t>(limit) >= records.size()) return;
  const Draws draws(seed, "limit");
  std::vector<std::pair<uint64_t, size_t>> order;
  order.reserve(records.size());
  for (size_t i = 0; i < records.size(); ++i) order.emplace_back(draws.bits(hash_number(record_hash(records[i]))), i);
  std::nth_element(order.begin(), order.begin() + limit, order.end());
  order.resize(static_cast<size_t>(limit));
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::vector<Record> kept;
  kept.reserve(order.size());
  for (const auto& [draw, i] : order) kept.push_back(std::move(records[i]));
  records = std::move(kept);
}

}  // namespace

std::vector<std::string> source_files(const SourceSpec& source) {
  if (!fs::is_directory(source.path)) return {source.path};
  const auto format = source.format == "auto" ? std::string() : format_of(source);
  if (format != "licences" && format != "text")
    throw RecipeError(fmt::format("data.sources.path: {}: is a folder; only the formats licences and text read folders", printable(source.path)));
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(source.path))
    if (entry.is_regular_file() && entry.path().extension() == (format == "licences" ? ".LICENSE" : ".txt")) files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  if (files.empty()) corrupt(source.path, "", format == "licences" ? "holds no *.LICENSE file" : "holds no *.txt file");
  return files;
}

std::string record_hash(const Record& record) {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.add(fmt::format("{}:", text.size())).add(text); };
  for (const auto& message : record.messages) {
    add(message.role);
    add(message.content);
  }
  add(record.text);
  return hash.hex();
}

std::vector<Record> read_records(const SourceSpec& source, int32_t index, std::vector<RejectionCounts>* rejections) {
  const auto files = source_files(source);
  const auto format = format_of(source);
  Collector collector(source, index);
  const auto take_columns = [&](Columns columns, std::string place) { collector.add_columns(std::move(columns), std::move(place)); };
  for (const auto& path : files) {
    const MappedFile file(path);
    const auto content = file.text();
    if (format == "jsonl") {
      read_json_lines(content, path, [&](const Json& object, std::string place) { collector.add_json(object, std::move(place)); });
    } else if (format == "csv") {
      read_csv(content, path, fs::path(path).extension() == ".tsv" ? '\t' : ',', take_columns);
    } else if (format == "icd10cm") {
      read_icd10cm(content, path, take_columns);
    } else if (format == "licences") {
      read_licence(content, path, take_columns);
    } else if (format == "lines") {
      read_text_lines(content, path, collector);
    } else {
      require_text(content, path, "");
      collector.add_text(std::string(without_bom(content)), path);
    }
    file.require_unchanged();
  }
  return collector.take(rejections);
}

std::vector<Record> read_records(const DataSpec& spec, std::vector<RejectionCounts>* rejections) {
  if (spec.sources.empty()) throw RecipeError("data.sources: expected at least one source");
  std::vector<Record> records;
  for (size_t i = 0; i < spec.sources.size(); ++i) {
    auto some = read_records(spec.sources[i], static_cast<int32_t>(i), rejections);
    keep_some(some, spec.sources[i].limit, static_cast<uint64_t>(spec.seed));
    records.insert(records.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  }
  return records;
}

}  // namespace retort
