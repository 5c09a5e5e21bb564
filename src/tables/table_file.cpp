#include "tables/table_file.h"

#include <arrow/io/memory.h>
#include <arrow/ipc/reader.h>
#include <parquet/arrow/reader.h>
#include <parquet/metadata.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "tables/arrow_calls.h"
#include "tables/json_values.h"

namespace retort {
namespace {

constexpr int64_t kMemory = int64_t{1} << 30;
constexpr size_t kLongestRow = size_t{16} << 20, kHandedOver = size_t{1} << 18;
constexpr int64_t kRowsAtOnce = 256, kBytesAtOnce = int64_t{16} << 20;
// A text may be so much longer than its file; short of that nobody asks.
constexpr uint64_t kMostText = uint64_t{1} << 30, kMostTimes = 1000;

// Writes batches of rows as lines.
class Lines {
 public:
  Lines(std::string_view content, std::string_view file,
        const std::function<void(std::string_view lines)>& take)
      : file_(file), most_(std::max(kMostText, kMostTimes * content.size())), take_(take) {}

  void require_known(const arrow::Schema& schema) const {
    std::set<std::string> seen;
    for (const auto& field : schema.fields()) {
      if (!seen.insert(field->name()).second) corrupt(file_, field->name(), "two columns have this name");
      if (const auto type = refused_type(*field->type()); !type.empty())
        corrupt(file_, field->name(),
                fmt::format("this column holds values of type {}, which is not read; write it as a text or a "
                            "number, or leave it out",
                            printable(type)));
    }
    if (schema.num_fields() == 0) corrupt(file_, "", "holds no columns");
  }

  void add(const arrow::RecordBatch& batch) {
    const auto& schema = *batch.schema();
    for (int64_t row = 0; row < batch.num_rows(); ++row) {
      const auto begin = lines_.size();
      ++rows_;
      lines_ += '{';
      for (int c = 0; c < batch.num_columns(); ++c) {
        if (c > 0) lines_ += ", ";
        append_json_text(schema.field(c)->name(), lines_);
        lines_ += ": ";
        append_json(*columns(batch, c), row, lines_);
        if (lines_.size() - begin > kLongestRow)
          corrupt(fmt::format("{}:{}", file_, rows_), "",
                  "row of more than " + bytes(kLongestRow) + "; at most so many are read");
      }
      lines_ += "}\n";
      if (lines_.size() >= kHandedOver) hand_over();
    }
  }

  void hand_over() {
    written_ += lines_.size();
    if (written_ > most_)
      corrupt(file_, "",
              "becomes more than " + bytes(most_) + " of text; write it as .jsonl if that is meant");
    if (!lines_.empty()) take_(lines_);
    lines_.clear();
  }
  int64_t rows() const { return rows_; }

 private:
  static const std::shared_ptr<arrow::Array>& columns(const arrow::RecordBatch& batch, int c) {
    return batch.columns()[static_cast<size_t>(c)];
  }
  std::string file_;
  uint64_t most_, written_ = 0;
  const std::function<void(std::string_view lines)>& take_;
  std::string lines_;
  int64_t rows_ = 0;
};

std::shared_ptr<arrow::io::BufferReader> source_of(std::string_view content) {
  return std::make_shared<arrow::io::BufferReader>(std::make_shared<arrow::Buffer>(
      reinterpret_cast<const uint8_t*>(content.data()), static_cast<int64_t>(content.size())));
}

std::shared_ptr<arrow::RecordBatch> checked(const std::string& file, const char* kind, const auto& read) {
  return sound(file, kind, [&]() -> arrow::Result<std::shared_ptr<arrow::RecordBatch>> {
    std::shared_ptr<arrow::RecordBatch> batch;
    ARROW_ASSIGN_OR_RAISE(batch, read());
    if (batch) ARROW_RETURN_NOT_OK(batch->ValidateFull());
    return batch;
  });
}

// Rows that are decoded together: as many as take some MiB.
int64_t rows_at_once(const parquet::FileMetaData& metadata) {
  int64_t size = 0;
  for (int group = 0; group < metadata.num_row_groups(); ++group)
    size = std::max(size, std::min(metadata.RowGroup(group)->total_byte_size(), int64_t{1} << 50));
  const auto a_row = std::max<int64_t>(1, size / std::max<int64_t>(1, metadata.num_rows()));
  return std::clamp<int64_t>(kBytesAtOnce / a_row, 1, kRowsAtOnce);
}

void read_parquet(std::string_view content, const std::string& file, arrow::MemoryPool& pool, Lines& lines) {
  constexpr auto kKind = "Parquet";
  parquet::ReaderProperties properties(&pool);
  properties.set_thrift_container_size_limit(1 << 20);
  properties.set_thrift_string_size_limit(64 << 20);
  const auto reader = sound(file, kKind, [&]() -> arrow::Result<std::unique_ptr<parquet::arrow::FileReader>> {
    parquet::arrow::FileReaderBuilder builder;
    ARROW_RETURN_NOT_OK(builder.Open(source_of(content), properties));
    parquet::ArrowReaderProperties arrow_properties(false);
    arrow_properties.set_pre_buffer(false);
    arrow_properties.set_batch_size(rows_at_once(*builder.raw_reader()->metadata()));
    return builder.memory_pool(&pool)->properties(arrow_properties)->Build();
  });
  const auto schema = sound(file, kKind, [&]() -> arrow::Result<std::shared_ptr<arrow::Schema>> {
    std::shared_ptr<arrow::Schema> found;
    ARROW_RETURN_NOT_OK(reader->GetSchema(&found));
    return found;
  });
  lines.require_known(*schema);
  const auto batches = sound(file, kKind, [&] { return reader->GetRecordBatchReader(); });
  while (const auto batch = checked(file, kKind, [&] { return batches->Next(); })) lines.add(*batch);
  const auto promised = reader->parquet_reader()->metadata()->num_rows();
  if (lines.rows() != promised)
    corrupt(file, "", fmt::format("holds {} rows; its footer says {}", lines.rows(), promised));
}

arrow::ipc::IpcReadOptions ipc_options(arrow::MemoryPool& pool) {
  arrow::ipc::IpcReadOptions options;
  options.memory_pool = &pool;
  options.use_threads = false;
  return options;
}

void read_arrow_file(std::string_view content, const std::string& file, arrow::MemoryPool& pool,
                     Lines& lines) {
  constexpr auto kKind = "Arrow";
  const auto reader = sound(file, kKind, [&] {
    return arrow::ipc::RecordBatchFileReader::Open(source_of(content), ipc_options(pool));
  });
  lines.require_known(*reader->schema());
  for (int i = 0; i < reader->num_record_batches(); ++i)
    lines.add(*checked(file, kKind, [&] { return reader->ReadRecordBatch(i); }));
}

constexpr std::string_view kEndOfStream{"\xFF\xFF\xFF\xFF\0\0\0\0", 8};

void read_arrow_stream(std::string_view content, const std::string& file, arrow::MemoryPool& pool,
                       Lines& lines) {
  constexpr auto kKind = "Arrow";
  const auto source = source_of(content);
  const auto reader = sound(
      file, kKind, [&] { return arrow::ipc::RecordBatchStreamReader::Open(source, ipc_options(pool)); });
  lines.require_known(*reader->schema());
  while (const auto batch = checked(file, kKind, [&] { return reader->Next(); })) lines.add(*batch);
  // The library takes a stream that was cut between two batches for a whole one.
  const auto end = static_cast<size_t>(sound(file, kKind, [&] { return source->Tell(); }));
  if (!content.substr(0, end).ends_with(kEndOfStream))
    corrupt(file, "", "ends without the mark that closes an Arrow stream; is the download complete?");
  if (end < content.size())
    corrupt(file, "",
            fmt::format("goes on with {} behind the end of its Arrow stream", bytes(content.size() - end)));
}

}  // namespace

void read_table(std::string_view content, std::string_view file,
                const std::function<void(std::string_view lines)>& take) {
  const std::string name(file);
  BoundedPool pool(kMemory, "some rows ask");
  Lines lines(content, file, take);
  if (content.starts_with("PAR1")) read_parquet(content, name, pool, lines);
  else if (content.starts_with("ARROW1")) read_arrow_file(content, name, pool, lines);
  else if (content.starts_with("\xFF\xFF\xFF\xFF")) read_arrow_stream(content, name, pool, lines);
  else if (content.starts_with("PARE"))
    corrupt(file, "", "is an encrypted Parquet file, which is not read; write it without encryption");
  else if (content.starts_with("FEA1"))
    corrupt(file, "", "is a Feather file of version 1, which is not read; write it as version 2 or Parquet");
  else if (content.empty()) corrupt(file, "", "is empty; is the download complete?");
  else corrupt(file, "", "is neither a Parquet nor an Arrow file; is the download complete?");
  if (lines.rows() == 0) corrupt(file, "", "holds columns but no rows");
  lines.hand_over();
}

}  // namespace retort
