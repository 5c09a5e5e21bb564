// The rows of one Parquet file, one at a time: lists of whole numbers and lists of lists. The file is hostile
// until read: memory is bounded, whatever Arrow refuses is a FormatError of one line.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace retort {

enum class Element { u8, u64, f32 };
struct NestedColumn {
  const char* name;
  Element element;
};

// A list of lists of one row, in Arrow's buffers until the next row is read.
class Lists {
 public:
  Lists(const void* values, std::span<const int32_t> begins)
      : values_(values), begins_(begins) {}  // one begin more than lists
  size_t size() const { return begins_.size() - 1; }
  template <class Number> std::span<const Number> at(size_t i) const {
    return {static_cast<const Number*>(values_) + begins_[i],
            static_cast<size_t>(begins_[i + 1] - begins_[i])};
  }

 private:
  const void* values_;
  std::span<const int32_t> begins_;
};

class ParquetTexts {
 public:
  // Exactly the columns input_ids (list of whole numbers) and these. `memory`: of the pages and lists of one
  // row; 100,000 positions of 128 ranks take half of what is given.
  ParquetTexts(const std::filesystem::path& file, const std::vector<NestedColumn>& columns,
               int64_t memory = int64_t{1} << 30);
  ~ParquetTexts();
  // The next row; false at the end.
  bool next();
  const std::vector<int64_t>& tokens() const;
  const std::vector<Lists>& columns() const;

 private:
  struct Reader;
  std::unique_ptr<Reader> reader_;
};

}  // namespace retort
