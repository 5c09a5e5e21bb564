// Bytes <-> named tensors: what safetensors, GGUF and PEFT folders have in common. A file is mapped; a tensor
// is a view.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "quant/types.h"

namespace retort {

struct TensorView {
  std::string name;
  WeightType type = WeightType::f32;
  std::vector<int64_t> shape;              // row-major, outermost first (GGUF's ne reversed)
  std::span<const std::byte> data;         // into the mapped file
  std::shared_ptr<const MappedFile> file;  // keeps the mapping alive
  int64_t elements() const;
};

// A GGUF metadata value; arrays are homogeneous.
struct GgufValue;
using GgufArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<uint64_t>, std::vector<int64_t>,
                 std::vector<float>, std::vector<double>, std::vector<bool>, std::vector<std::string>>;
struct GgufValue : std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                                std::string, GgufArray, uint64_t, int64_t, double> {
  using variant::variant;
};

// What a metadata value says, whichever of the number types the writer chose; nullopt or nullptr when it is
// of another kind (or when `value` itself is nullptr: an absent key).
std::optional<int64_t> whole_number(const GgufValue* value);
std::optional<double> real_number(const GgufValue* value);
std::optional<bool> truth(const GgufValue* value);
const std::string* text(const GgufValue* value);
template <class Element> const std::vector<Element>* list(const GgufValue* value) {
  const auto* array = value ? std::get_if<GgufArray>(value) : nullptr;
  return array ? std::get_if<std::vector<Element>>(array) : nullptr;
}

// One opened file or one opened folder of shards.
struct WeightFile {
  std::filesystem::path path;
  std::vector<TensorView> tensors;                               // in file order
  std::vector<std::pair<std::string, GgufValue>> gguf_metadata;  // GGUF only, in file order
  std::map<std::string, std::string> safetensors_metadata;       // safetensors only
  std::vector<uint32_t> by_name;  // positions in `tensors`, sorted by name; the readers fill it
  const TensorView* find(std::string_view name) const;    // nullptr when absent
  const GgufValue* metadata(std::string_view key) const;  // nullptr when absent
  // FormatError when a file changed since it was opened. Call it when all tensors have been read.
  void require_unchanged() const;
};

// Each throws FormatError naming file, tensor, found, expected. Tensor names are unique, every tensor's bytes
// lie inside its file and agree with shape and type. Tensor data need not be aligned to its element size
// (safetensors promises nothing).
WeightFile open_safetensors(const std::filesystem::path& file);  // one .safetensors file
WeightFile open_safetensors_folder(
    const std::filesystem::path& folder);                 // model.safetensors, or the index and its shards
WeightFile open_gguf(const std::filesystem::path& file);  // also split files, through any of them
// Any of the above, by content. A folder may also hold one .gguf (or one split set) or a PEFT adapter.
WeightFile open_weights(const std::filesystem::path& path);

// What is to be written; `fill` is called once, in the order of the file, and hands over the tensor's bytes
// in as many parts as it likes; std::logic_error when their sum is not what type and shape need. Without
// `fill` the file has a hole there, which reads as zeros: for a file that is written for its header alone.
struct TensorSource {
  std::string name;
  WeightType type = WeightType::f32;
  std::vector<int64_t> shape;
  std::function<void(const std::function<void(std::span<const std::byte>)>& sink)> fill;
};

// Both write atomically and stream: memory stays that of one part. FormatError when a type, name or shape
// cannot be stored. Tensors are ordered as the reference writer does (dtype, then name). Loaders of
// transformers expect metadata {"format": "pt"}.
void write_safetensors(const std::filesystem::path& file, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata);
// Shards of at most `shard_bytes` (a larger tensor gets one of its own), with the index file, or one
// model.safetensors when everything fits. Weight files of an earlier export under the same names are removed
// once the new ones are in place.
void write_safetensors_folder(const std::filesystem::path& folder, const std::vector<TensorSource>& tensors,
                              uint64_t shard_bytes);
// Version 3. `general.alignment` (u32) in the metadata is honoured; 32 otherwise.
void write_gguf(const std::filesystem::path& file,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                const std::vector<TensorSource>& tensors);

// A source over bytes that live elsewhere (the view must outlive the writing).
TensorSource tensor_source(std::string name, WeightType type, std::vector<int64_t> shape,
                           std::span<const std::byte> data);

}  // namespace retort
