#include "data/rows.h"

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "data/json_records.h"
#include "data/readers.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr size_t kReleasedAtOnce = size_t{4} << 20;  // bytes of a file

// Pages that were read stay in this process's memory until they are released.
class Behind {
 public:
  explicit Behind(const MappedFile& file) : file_(file) {}
  void operator()(size_t end) {
    if (end < begin_ + 2 * kReleasedAtOnce) return;
    const auto until = end - kReleasedAtOnce;  // rows on their way to the threads are still looked at
    file_.release(file_.bytes().subspan(begin_, until - begin_));
    begin_ = until;
  }

 private:
  const MappedFile& file_;
  size_t begin_ = 0;
};

CsvForm form_of(const SourceSpec& source, std::string_view content, const std::string& path) {
  const bool quotes = source.quotes == "double";
  if (source.delimiter != "auto") return {source.delimiter == "tab" ? '\t' : source.delimiter[0], quotes};
  return {guessed_delimiter(content, {ending_of(path) == ".tsv" ? '\t' : ',', quotes}), quotes};
}

bool is_table_format(const std::string& format) { return format == "parquet" || format == "arrow"; }

void require_utf8(const SourceSpec& source, const std::string& path) {
  if (source.encoding == "utf-8") return;
  throw RecipeError(
      fmt::format("data.sources.encoding: {}: texts of Parquet and Arrow files are UTF-8; leave "
                  "encoding out",
                  printable(path)));
}

}  // namespace

size_t Row::bytes() const {
  size_t sum = raw.size() + text.size();
  for (const auto& [name, value] : columns) sum += name.size() + value.size();
  return sum;
}

void read_rows(const SourceSpec& source, const std::function<void(Row row)>& take,
               const std::function<void()>& file_done, const TakeBad& bad) {
  const auto files = source_files(source);
  const auto format = source_format(source);
  const auto take_columns = [&](Columns columns, std::string place) {
    take({Row::Kind::columns, {}, nullptr, std::move(columns), {}, std::move(place)});
  };
  for (const auto& path : files) {
    const auto file = std::make_shared<const MappedFile>(path);
    if (is_table_format(format)) {
      require_utf8(source, path);
      read_table_rows(*file, [&](std::string_view line, std::string place, auto held) {
        take({Row::Kind::json, line, nullptr, {}, {}, std::move(place), std::move(held)});
      });
      file->require_unchanged();
      continue;
    }
    const auto made = text_of_file(file->text(), path, source.encoding);  // what is not read where it lies
    const auto in_place = made ? nullptr : file;
    const auto content = made ? std::string_view(*made) : file->text();
    if (!made) require_plain_text(content, path);
    std::optional<Behind> behind;
    if (!made) behind.emplace(*file);
    const auto passed = [&](size_t end) {
      if (behind) (*behind)(end);
    };
    if (format == "jsonl" || format == "json" || format == "lines") {
      const auto kind = format == "lines" ? Row::Kind::line : Row::Kind::json;
      // The rows point into the file: it is let go of once they are records.
      size_t rows = 0;
      const auto take_raw = [&](std::string_view raw, std::string place) {
        take({kind, raw, in_place, {}, {}, std::move(place)});
        passed(static_cast<size_t>(raw.data() - content.data()));
        ++rows;
      };
      if (format == "json" && is_json_array(content)) read_json_array(content, path, take_raw);
      else read_lines(content, path, take_raw);
      if (rows == 0 && kind == Row::Kind::json)
        corrupt(path, "", "holds no records; expected one JSON object a line");
      file_done();
    } else if (format == "csv") {
      read_csv(content, path, form_of(source, content, path), take_columns, passed, bad);
    } else if (format == "icd10cm") {
      read_icd10cm(content, path, take_columns);
    } else if (format == "licences") {
      read_licence(content, path, take_columns);
    } else {
      require_text(content, path, "");
      take({Row::Kind::text, {}, nullptr, {}, std::string(without_bom(content)), path});
    }
    file->require_unchanged();
  }
}

RecordMaker::RecordMaker(const SourceSpec& source, int32_t index)
    : source_(source),
      index_(index),
      where_(fmt::format("data.sources[{}]", index)),
      reshape_(source, where_) {
  if (source.prompt.empty() != source.completion.empty())
    throw RecipeError(where_ + ": prompt and completion are set together or not at all");
  if (source.kind != "auto" && source.kind != "columns" && !source.prompt.empty())
    throw RecipeError(where_ + ".kind: prompt and completion are set, so kind is 'columns'; found '" +
                      source.kind + "'");
  if (source.kind == "columns" && source.prompt.empty())
    throw RecipeError(where_ + ".prompt: kind 'columns' needs prompt and completion");
  if (!source.prompt.empty() && !reshape_.empty())
    throw RecipeError(where_ +
                      ": roles and fields are for records of messages; prompt and completion name "
                      "their columns themselves");
  const auto names_column = [&](const std::string& pattern, const char* key) {
    return !placeholder_names(pattern, where_ + key).empty();
  };
  if (!source.group.empty() && source.group != "prompt" && !names_column(source.group, ".group"))
    throw RecipeError(fmt::format(
        "{}.group: '{}' is the same text for every record, which puts all of them on one side; name a column "
        "in braces, {{{}}}, or write prompt to group by what is asked",
        where_, printable(source.group), printable(source.group)));
  uses_columns_ = !source.prompt.empty() || names_column(source.system, ".system") || !source.group.empty() ||
                  source.reject.has_value();
}

void RecordMaker::settle(const Row& first) {
  if (!source_.prompt.empty() || first.kind == Row::Kind::line || first.kind == Row::Kind::text) return;
  kind_ = source_.kind;
  if (kind_ != "auto") return;
  if (first.kind == Row::Kind::json) {
    auto object = parse_json_line(first.raw, first.place);
    if (!reshape_.empty()) object = parse_json(reshape_.record(first.raw, first.place), first.place);
    kind_ = recognised_kind(object, first.place);
  } else {
    Json object = Json::object();
    for (const auto& [name, value] : reshape_.columns(first.columns, first.place)) object[name] = value;
    kind_ = recognised_kind(object, first.place);
  }
}

Record RecordMaker::make(Row row) const {
  if (row.kind == Row::Kind::json) return of_json(row.raw, std::move(row.place));
  if (row.kind == Row::Kind::columns) return of_columns(std::move(row.columns), std::move(row.place));
  if (row.kind == Row::Kind::text) return of_text(std::move(row.text), std::move(row.place));
  require_text(row.raw, row.place, "");
  return of_text(std::string(row.raw), std::move(row.place));
}

Record RecordMaker::of_json(std::string_view line, std::string place) const {
  auto object = parse_json_line(line, place);
  if (!source_.prompt.empty()) return of_columns(json_columns(line), std::move(place));
  Record record = blank(uses_columns_ ? json_columns(line) : Columns(), std::move(place));
  std::string reshaped;
  if (!reshape_.empty()) {
    reshaped = reshape_.record(line, record.place);
    object = parse_json(reshaped, record.place);
    line = reshaped;
  }
  fill_from_json(object, line, kind_, source_.reasoning, record);
  return finished(std::move(record));
}

Record RecordMaker::of_columns(Columns columns, std::string place) const {
  Record record = blank(std::move(columns), std::move(place));
  if (!source_.prompt.empty()) {
    record.messages = {{"user", filled(source_.prompt, record, "prompt")},
                       {"assistant", filled(source_.completion, record, "completion")}};
  } else {  // the same kinds as JSON, by column names
    Json object = Json::object();
    for (const auto& [name, value] : reshape_.columns(record.columns, record.place)) object[name] = value;
    fill_from_json(object, object.dump(), kind_, source_.reasoning, record);
  }
  return finished(std::move(record));
}

Record RecordMaker::of_text(std::string text, std::string place) const {
  if (!source_.prompt.empty()) return of_columns({{"text", std::move(text)}}, std::move(place));
  Record record = blank({}, std::move(place));
  record.text = std::move(text);
  return finished(std::move(record));
}

std::string RecordMaker::filled(std::string_view pattern, const Record& record, std::string_view key) const {
  bool used_empty = false;
  std::string text;
  try {
    text = fill_placeholders(pattern, record.columns, fmt::format("{}.{}", where_, key), &used_empty);
  } catch (const RecipeError& error) { throw RecipeError(printable(record.place) + ": " + error.what()); }
  if (used_empty && source_.skip_empty) throw EmptyRecord(printable(record.place));
  return text;
}

Record RecordMaker::blank(Columns columns, std::string place) const {
  Record record;
  record.columns = std::move(columns);
  record.place = std::move(place);
  record.source = index_;
  if (!source_.group.empty() && source_.group != "prompt")
    record.group = filled(source_.group, record, "group");
  return record;
}

Record RecordMaker::finished(Record record) const {
  if (record.messages.empty()) {
    if (trimmed(record.text).empty() && source_.skip_empty) throw EmptyRecord(printable(record.place));
    if (trimmed(record.text).empty() && !source_.reject) corrupt(record.place, "text", "is empty");
    return record;
  }
  if (!source_.system.empty() && record.messages[0].role != "system")
    record.messages.insert(record.messages.begin(), {"system", filled(source_.system, record, "system")});
  if (record.messages.back().role != "assistant")
    corrupt(record.place, "",
            "the conversation ends with a " + record.messages.back().role +
                " message; expected an assistant's answer to learn from");
  // A model may have said nothing: that is for `reject` to judge.
  for (const auto& message : record.messages)
    if (trimmed(message.content).empty() && message.fields.empty() &&
        !(source_.reject && &message == &record.messages.back())) {
      if (source_.skip_empty) throw EmptyRecord(printable(record.place));
      corrupt(record.place, message.role, "this message is empty");
    }
  if (source_.group == "prompt") {
    const auto key = prompt_key(record);
    record.group = fmt::format("prompt {:016x}{:016x}", key.high, key.low);
  }
  return record;
}

}  // namespace retort
