// Folders as DistillKit writes them, for tests: Parquet files through Arrow's own writer, rows packed by
// hand.
#pragma once
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/writer.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

namespace retort {

using Bytes = std::vector<uint8_t>;
struct WrittenText {
  std::vector<uint64_t> tokens;
  std::vector<Bytes> values, ids;  // a position each
};

// Ids of `bits` bits each, most significant first.
inline Bytes packed_ids(const std::vector<uint64_t>& ids, int bits) {
  Bytes out((ids.size() * static_cast<size_t>(bits) + 7) / 8);
  size_t at = 0;
  for (const auto id : ids)
    for (int bit = bits - 1; bit >= 0; --bit, ++at)
      out[at / 8] = static_cast<uint8_t>(out[at / 8] | ((id >> bit) & 1) << (7 - at % 8));
  return out;
}

inline Bytes floats(const std::vector<float>& values) {
  Bytes out(values.size() * 4);
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

inline std::shared_ptr<arrow::Array> byte_lists(const std::vector<WrittenText>& texts,
                                                std::vector<Bytes> WrittenText::*member) {
  const auto values = std::make_shared<arrow::UInt8Builder>();
  const auto inner = std::make_shared<arrow::ListBuilder>(arrow::default_memory_pool(), values);
  arrow::ListBuilder outer(arrow::default_memory_pool(), inner);
  for (const auto& text : texts) {
    PARQUET_THROW_NOT_OK(outer.Append());
    for (const auto& bytes : text.*member) {
      PARQUET_THROW_NOT_OK(inner->Append());
      PARQUET_THROW_NOT_OK(values->AppendValues(bytes.data(), static_cast<int64_t>(bytes.size())));
    }
  }
  return outer.Finish().ValueOrDie();
}

inline std::shared_ptr<arrow::Array> token_lists(const std::vector<WrittenText>& texts) {
  const auto values = std::make_shared<arrow::UInt64Builder>();
  arrow::ListBuilder lists(arrow::default_memory_pool(), values);
  for (const auto& text : texts) {
    PARQUET_THROW_NOT_OK(lists.Append());
    PARQUET_THROW_NOT_OK(values->AppendValues(text.tokens.data(), static_cast<int64_t>(text.tokens.size())));
  }
  return lists.Finish().ValueOrDie();
}

inline void write_columns(const std::string& file,
                          const std::vector<std::pair<std::string, std::shared_ptr<arrow::Array>>>& columns,
                          int64_t row_group = 2) {
  std::vector<std::shared_ptr<arrow::Field>> fields;
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  for (const auto& [name, array] : columns)
    fields.push_back(arrow::field(name, array->type())), arrays.push_back(array);
  const auto out = arrow::io::FileOutputStream::Open(file).ValueOrDie();
  PARQUET_THROW_NOT_OK(parquet::arrow::WriteTable(*arrow::Table::Make(arrow::schema(fields), arrays),
                                                  arrow::default_memory_pool(), out, row_group));
  PARQUET_THROW_NOT_OK(out->Close());
}

inline void write_texts(const std::string& file, const std::vector<WrittenText>& texts) {
  write_columns(file, {{"input_ids", token_lists(texts)},
                       {"compressed_logprobs", byte_lists(texts, &WrittenText::values)},
                       {"bytepacked_indices", byte_lists(texts, &WrittenText::ids)}});
}

}  // namespace retort
