#include "import/parquet_texts.h"

#include <arrow/api.h>
#include <arrow/io/memory.h>
#include <parquet/arrow/reader.h>

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "tables/arrow_calls.h"

namespace retort {
namespace {

constexpr auto kKind = "Parquet";

std::shared_ptr<arrow::DataType> type_of(Element element) {
  return element == Element::u8    ? arrow::uint8()
         : element == Element::u64 ? arrow::uint64()
                                   : arrow::float32();
}

bool is_list_of(const arrow::DataType& type, const auto& accepts) {
  return type.id() == arrow::Type::LIST && accepts(*type.field(0)->type());
}

template <class Array> void append_numbers(const arrow::Array& numbers, std::vector<int64_t>& out) {
  const auto& values = static_cast<const Array&>(numbers);
  for (int64_t i = 0; i < values.length(); ++i)
    out.push_back(static_cast<int64_t>(
        values.Value(i)));  // what does not fit is negative or too large for a token either way
}

}  // namespace

struct ParquetTexts::Reader {
  Reader(const std::filesystem::path& path, int64_t memory) : pool(memory), file(path) {}

  void open(const std::vector<NestedColumn>& wanted) {
    parquet::ReaderProperties properties(&pool);
    properties.set_thrift_container_size_limit(1 << 20);
    properties.set_thrift_string_size_limit(16 << 20);
    parquet::ArrowReaderProperties arrow_properties(false);
    arrow_properties.set_batch_size(1);
    arrow_properties.set_pre_buffer(false);
    const auto source = std::make_shared<arrow::io::BufferReader>(std::make_shared<arrow::Buffer>(
        reinterpret_cast<const uint8_t*>(file.bytes().data()), static_cast<int64_t>(file.bytes().size())));
    reader = sound(file.name(), kKind, [&]() -> arrow::Result<std::unique_ptr<parquet::arrow::FileReader>> {
      parquet::arrow::FileReaderBuilder builder;
      ARROW_RETURN_NOT_OK(builder.Open(source, properties));
      return builder.memory_pool(&pool)->properties(arrow_properties)->Build();
    });
    const auto schema = sound(file.name(), kKind, [&]() -> arrow::Result<std::shared_ptr<arrow::Schema>> {
      std::shared_ptr<arrow::Schema> found;
      ARROW_RETURN_NOT_OK(reader->GetSchema(&found));
      return found;
    });
    check_schema(*schema, wanted);
    batches = sound(file.name(), kKind, [&] { return reader->GetRecordBatchReader(); });
  }

  void check_schema(const arrow::Schema& schema, const std::vector<NestedColumn>& wanted) {
    columns = wanted;
    const auto expect = [&](const char* name, const std::string& type, const auto& accepts) {
      const auto field = schema.GetFieldByName(name);
      if (!field) corrupt(file.name(), name, fmt::format("no such column; expected {}", type));
      if (!accepts(*field->type()))
        corrupt(file.name(), name,
                fmt::format("expected {}, found {}", type, printable(field->type()->ToString())));
    };
    expect("input_ids", "list<uint64>", [](const arrow::DataType& type) {
      return is_list_of(type, [](const arrow::DataType& each) { return arrow::is_integer(each.id()); });
    });
    for (const auto& [name, element] : wanted)
      expect(name, fmt::format("list<list<{}>>", type_of(element)->ToString()),
             [&, kind = type_of(element)->id()](const arrow::DataType& type) {
               return is_list_of(type, [&](const arrow::DataType& inner) {
                 return is_list_of(inner, [&](const arrow::DataType& each) { return each.id() == kind; });
               });
             });
    for (const auto& field : schema.fields()) {
      const auto known = field->name() == "input_ids" ||
                         std::any_of(wanted.begin(), wanted.end(), [&](const NestedColumn& column) {
                           return field->name() == column.name;
                         });
      if (!known)
        corrupt(file.name(), field->name(),
                "unknown column; folders whose texts were packed together are not read, expected them as "
                "they were captured");
    }
  }

  bool next() {
    batch = sound(file.name(), kKind, [&]() -> arrow::Result<std::shared_ptr<arrow::RecordBatch>> {
      std::shared_ptr<arrow::RecordBatch> read;
      ARROW_RETURN_NOT_OK(batches->ReadNext(&read));
      if (read) ARROW_RETURN_NOT_OK(read->ValidateFull());
      return read;
    });
    if (!batch) return finished();
    ++rows;
    if (batch->num_rows() != 1)
      corrupt(file.name(), "", fmt::format("row {} comes as {} rows", rows, batch->num_rows()));
    read_tokens();
    lists.clear();
    for (const auto& column : columns) read_lists(column);
    if (rows % 64 == 0)
      file.release(file.bytes());  // pages that were read would count as this process's memory
    return true;
  }

  bool finished() const {
    const auto promised = reader->parquet_reader()->metadata()->num_rows();
    if (rows != promised)
      corrupt(file.name(), "", fmt::format("holds {} rows; its footer says {}", rows, promised));
    return false;
  }

  const arrow::ListArray& whole(const arrow::Array& array, const char* name) const {
    if (array.null_count() != 0) corrupt(file.name(), name, fmt::format("row {} holds a null", rows));
    return static_cast<const arrow::ListArray&>(array);
  }

  void read_tokens() {
    const auto column = batch->GetColumnByName("input_ids");
    const auto numbers = whole(*column, "input_ids").value_slice(0);
    if (numbers->null_count() != 0)
      corrupt(file.name(), "input_ids", fmt::format("row {} holds a null", rows));
    tokens.clear();
    switch (numbers->type_id()) {
      case arrow::Type::UINT64: return append_numbers<arrow::UInt64Array>(*numbers, tokens);
      case arrow::Type::INT64: return append_numbers<arrow::Int64Array>(*numbers, tokens);
      case arrow::Type::UINT32: return append_numbers<arrow::UInt32Array>(*numbers, tokens);
      case arrow::Type::INT32: return append_numbers<arrow::Int32Array>(*numbers, tokens);
      default:
        corrupt(file.name(), "input_ids",
                fmt::format("expected list<uint64>, found list<{}>", numbers->type()->ToString()));
    }
  }

  void read_lists(const NestedColumn& column) {
    const auto array = batch->GetColumnByName(column.name);
    const auto& outer = whole(*array, column.name);
    const auto& inner = whole(*outer.values(), column.name);
    const auto& values = *inner.values();
    if (values.null_count() != 0) corrupt(file.name(), column.name, fmt::format("row {} holds a null", rows));
    const auto size = column.element == Element::u8 ? 1 : column.element == Element::u64 ? 8 : 4;
    const auto& buffer = values.data()->buffers[1];
    const auto* data = buffer ? buffer->data() + values.offset() * size : nullptr;
    lists.emplace_back(data, std::span(inner.raw_value_offsets() + outer.value_offset(0),
                                       static_cast<size_t>(outer.value_length(0)) + 1));
  }

  BoundedPool pool;  // outlives what it gave
  MappedFile file;
  std::vector<NestedColumn> columns;
  std::unique_ptr<parquet::arrow::FileReader> reader;
  std::unique_ptr<arrow::RecordBatchReader> batches;
  std::shared_ptr<arrow::RecordBatch> batch;
  int64_t rows = 0;
  std::vector<int64_t> tokens;
  std::vector<Lists> lists;
};

ParquetTexts::ParquetTexts(const std::filesystem::path& file, const std::vector<NestedColumn>& columns,
                           int64_t memory)
    : reader_(std::make_unique<Reader>(file, memory)) {
  reader_->open(columns);
}
ParquetTexts::~ParquetTexts() = default;
bool ParquetTexts::next() { return reader_->next(); }
const std::vector<int64_t>& ParquetTexts::tokens() const { return reader_->tokens; }
const std::vector<Lists>& ParquetTexts::columns() const { return reader_->lists; }

}  // namespace retort
