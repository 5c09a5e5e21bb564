// Readers as pure functions of bytes: what the fuzzers and the hostile-file tests call. Everything is checked
// before anything is touched or reserved, so a few hostile bytes cost a few microseconds.
#pragma once
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "formats/weight_file.h"

namespace retort {

struct StoredTensor {
  std::string name;
  WeightType type = WeightType::f32;
  std::vector<int64_t> shape;   // row-major, outermost first
  uint64_t begin = 0, end = 0;  // bytes from the beginning of the file
};

struct ParsedFile {
  std::vector<StoredTensor> tensors;  // in the order of their data
  std::vector<std::pair<std::string, GgufValue>> gguf_metadata;
  std::map<std::string, std::string> safetensors_metadata;
};

// `name` is only for error messages. Both throw FormatError.
ParsedFile parse_safetensors(std::span<const std::byte> file, std::string_view name);
ParsedFile parse_gguf(std::span<const std::byte> file, std::string_view name);

// model.safetensors.index.json -> (tensor, shard) sorted by tensor; shards are plain file names.
std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                         std::string_view name);

// Throws when `file` begins like something that is never opened: archives, pickles, NumPy files, web pages,
// LFS pointers.
void refuse_foreign(std::span<const std::byte> file, std::string_view name);

// Bytes of a tensor; FormatError when a row is not whole blocks or a product overflows 64 bits.
uint64_t tensor_bytes(WeightType type, const std::vector<int64_t>& shape, std::string_view file,
                      std::string_view tensor);

// "[2, 3]"
std::string describe_shape(const std::vector<int64_t>& shape);

// FormatError naming the first name that occurs twice; n log n.
void require_unique(std::vector<std::string_view> names, std::string_view file, std::string_view what);

// A mapped file and what its parser found, as views.
WeightFile as_weight_file(std::shared_ptr<const MappedFile> file, ParsedFile parsed);
// Fills `by_name`; FormatError when a name occurs twice.
void index_names(WeightFile& weights);

// What a writer checks before the first byte is written: unique names and, per tensor, its bytes.
std::vector<uint64_t> sizes_to_write(const std::filesystem::path& file,
                                     const std::vector<TensorSource>& tensors);
// Bytes of those that have no fill.
uint64_t bytes_of_holes(const std::vector<TensorSource>& tensors, const std::vector<uint64_t>& sizes);
// Runs a source's fill into `file` and holds it to `expected` bytes.
void write_tensor(AtomicFile& file, const TensorSource& tensor, uint64_t expected);

// A cursor that never leaves its bytes. Integers are little-endian, as in both formats.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> data, std::string_view file) : data_(data), file_(file) {}
  uint64_t offset() const { return offset_; }
  uint64_t left() const { return data_.size() - offset_; }
  std::string_view file() const { return file_; }

  template <class Number> Number number(std::string_view what) {
    static_assert(std::is_arithmetic_v<Number>);
    Number value;
    std::memcpy(&value, take(sizeof(Number), what), sizeof(Number));
    return value;
  }

  std::string_view text(uint64_t length, std::string_view what) {
    return {reinterpret_cast<const char*>(take(length, what)), length};
  }

  // Proves that `count` things of at least `smallest` bytes fit into what is left: to be called before
  // reserving for them.
  void require_room(uint64_t count, uint64_t smallest, std::string_view what) const {
    uint64_t needed = 0;
    if (!multiply(count, smallest, needed) || needed > left())
      fail(fmt::format("{} {} need at least {} bytes each, {} are left in the file", count, what, smallest,
                       left()));
  }

  [[noreturn]] void fail(std::string_view problem) const {
    corrupt(file_, fmt::format("byte {}", offset_), problem);
  }

 private:
  const std::byte* take(uint64_t count, std::string_view what) {
    if (count > left())
      fail(fmt::format("{} needs {}, {} left; is the download complete?", what, bytes(count), bytes(left())));
    const auto* at = data_.data() + offset_;
    offset_ += count;
    return at;
  }

  std::span<const std::byte> data_;
  std::string_view file_;
  uint64_t offset_ = 0;
};

}  // namespace retort
