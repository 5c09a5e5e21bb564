// GGUF version 3: magic, version, counts, key-value pairs, tensor infos, padding, data (ggml/docs/gguf.md).
#include <algorithm>

#include "formats/gguf_types.h"
#include "formats/parse.h"

namespace retort {
namespace {

constexpr uint64_t kSmallestPair = 8 + 1 + 4 + 1;  // key length, one byte of key, type, one byte of value
constexpr uint64_t kSmallestInfo =
    8 + 1 + 4 + 4 + 8;  // name length, one byte of name, dimension count, type, offset
constexpr uint64_t kLongestKey = 65535, kLongestName = 63;  // gguf.md; GGML_MAX_NAME less the terminator

std::string_view read_text(ByteReader& in, std::string_view what) {
  return in.text(in.number<uint64_t>("the length of a string"), what);
}

std::string read_name(ByteReader& in, std::string_view what, uint64_t longest) {
  const auto length = in.number<uint64_t>(what);
  if (length == 0 || length > longest)
    in.fail(fmt::format("{} has {} bytes; expected 1 to {}", what, length, longest));
  const auto name = in.text(length, what);
  if (name.find('\0') != name.npos) in.fail(fmt::format("{} holds a NUL", what));
  return std::string(name);
}

template <class Element> Element read_element(ByteReader& in, std::string_view key) {
  if constexpr (std::is_same_v<Element, std::string>) {
    return std::string(read_text(in, "a string"));
  } else if constexpr (std::is_same_v<Element, bool>) {
    const auto value = in.number<uint8_t>("a truth value");
    if (value > 1) corrupt(in.file(), key, fmt::format("the truth value {} is neither 0 nor 1", value));
    return value == 1;
  } else {
    return in.number<Element>("a number");
  }
}

template <class Element> GgufArray read_elements(ByteReader& in, uint64_t count, std::string_view key) {
  in.require_room(count, std::is_same_v<Element, std::string> ? sizeof(uint64_t) : sizeof(Element),
                  "array elements");
  std::vector<Element> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read_element<Element>(in, key));
  return elements;
}

GgufValue read_value(ByteReader& in, std::string_view key) {
  const auto type = in.number<uint32_t>("a value's type");
  GgufValue value;
  if (type != kGgufArray) {
    if (!with_gguf_type(type, [&](auto sample) { value = read_element<decltype(sample)>(in, key); }))
      corrupt(in.file(), key, fmt::format("value type {} is unknown; expected 0 to 12", type));
    return value;
  }
  const auto element = in.number<uint32_t>("an array's element type");
  const auto count = in.number<uint64_t>("an array's length");
  if (!with_gguf_type(element, [&](auto sample) { value = read_elements<decltype(sample)>(in, count, key); }))
    corrupt(in.file(), key,
            element == kGgufArray ? "arrays of arrays are not supported"
                                  : fmt::format("array element type {} is unknown", element));
  return value;
}

uint64_t read_alignment(const ParsedFile& parsed, std::string_view file) {
  for (const auto& [key, value] : parsed.gguf_metadata) {
    if (key != "general.alignment") continue;
    const auto* alignment = std::get_if<uint32_t>(&value);
    if (!alignment) corrupt(file, key, "expected a 32-bit unsigned number");
    if (!valid_gguf_alignment(*alignment))
      corrupt(file, key, fmt::format("is {}; expected a power of two from 8 to 65536", *alignment));
    return *alignment;
  }
  return kGgufAlignment;
}

// One tensor info. The offset is relative to the data until the caller moves it.
StoredTensor read_info(ByteReader& in) {
  StoredTensor tensor;
  tensor.name = read_name(in, "a tensor's name", kLongestName);
  const auto dims = in.number<uint32_t>("a tensor's dimension count");
  if (dims > 4)
    corrupt(in.file(), tensor.name, fmt::format("has {} dimensions; at most 4 are allowed", dims));
  for (uint32_t i = 0; i < dims; ++i) {
    const auto dim = in.number<int64_t>("a dimension");
    if (dim < 0)
      corrupt(in.file(), tensor.name, fmt::format("dimension {} is {}; expected 0 or more", i, dim));
    tensor.shape.insert(tensor.shape.begin(), dim);  // GGUF lists the innermost first
  }
  const auto id = in.number<int32_t>("a tensor's type");
  const auto type = type_from_ggml(id);
  if (!type)
    corrupt(in.file(), tensor.name, fmt::format("ggml type {} is unknown, removed or not supported", id));
  tensor.type = *type;
  tensor.begin = in.number<uint64_t>("a tensor's offset");
  return tensor;
}

// Data follow each other in order, each at the next multiple of the alignment; llama.cpp's reader demands the
// same.
void place_tensors(ParsedFile& parsed, uint64_t infos_end, uint64_t file_bytes, std::string_view file) {
  const auto alignment = read_alignment(parsed, file);
  uint64_t data_start = 0, reached = 0, last_end = infos_end;
  if (!align_up(infos_end, alignment, data_start)) corrupt(file, "", "the data section overflows 64 bits");
  for (auto& tensor : parsed.tensors) {
    const auto size = tensor_bytes(tensor.type, tensor.shape, file, tensor.name);
    if (tensor.begin != reached)
      corrupt(file, tensor.name,
              fmt::format(
                  "its data begin at offset {}; expected {} (in order, without gap or overlap, alignment {})",
                  tensor.begin, reached, alignment));
    uint64_t end = 0;
    if (!add(tensor.begin, size, end) || !align_up(end, alignment, reached) ||
        !add(tensor.begin, data_start, tensor.begin) || !add(end, data_start, tensor.end))
      corrupt(file, tensor.name, "its data overflow 64 bits");
    if (tensor.end > file_bytes)
      corrupt(file, tensor.name,
              fmt::format("its data end at byte {}, the file at {}; is the download complete?", tensor.end,
                          file_bytes));
    last_end = tensor.end;
  }
  uint64_t padded = 0;
  if (!align_up(last_end, alignment, padded) || file_bytes > padded)
    corrupt(file, "",
            fmt::format("{} follow the last tensor; expected padding to a multiple of {} at most",
                        bytes(file_bytes - last_end), alignment));
}

}  // namespace

ParsedFile parse_gguf(std::span<const std::byte> file, std::string_view name) {
  refuse_foreign(file, name);
  ByteReader in(file, name);
  if (in.text(4, "the magic") != "GGUF")
    corrupt(name, "byte 0", "is not a GGUF file: the magic bytes are missing");
  const auto version = in.number<uint32_t>("the version");
  if (version != 3)
    corrupt(name, "byte 4",
            version == 0x03000000
                ? std::string("is a big-endian GGUF file; only little-endian ones are read")
                : fmt::format("GGUF version {}; only version 3 is read, convert the file with llama.cpp",
                              version));
  const auto tensor_count = in.number<uint64_t>("the tensor count"),
             pair_count = in.number<uint64_t>("the metadata count");
  in.require_room(pair_count, kSmallestPair, "metadata values");
  in.require_room(tensor_count, kSmallestInfo, "tensor infos");

  ParsedFile parsed;
  std::vector<std::string_view> names;
  parsed.gguf_metadata.reserve(pair_count);
  for (uint64_t i = 0; i < pair_count; ++i) {
    auto key = read_name(in, "a metadata key", kLongestKey);
    auto value = read_value(in, key);
    parsed.gguf_metadata.emplace_back(std::move(key), std::move(value));
  }
  for (const auto& pair : parsed.gguf_metadata) names.push_back(pair.first);
  require_unique(std::move(names), name, "metadata key");

  in.require_room(tensor_count, kSmallestInfo, "tensor infos");
  parsed.tensors.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) parsed.tensors.push_back(read_info(in));
  names.clear();
  for (const auto& tensor : parsed.tensors) names.push_back(tensor.name);
  require_unique(std::move(names), name, "tensor");
  place_tensors(parsed, in.offset(), file.size(), name);
  return parsed;
}

}  // namespace retort
