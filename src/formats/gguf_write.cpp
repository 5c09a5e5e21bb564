// GGUF version 3, as the gguf package and llama.cpp write it: every tensor, the last too, is padded to the
// alignment.
#include <algorithm>
#include <bit>

#include "formats/gguf_types.h"
#include "formats/parse.h"

namespace retort {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

class Header {
 public:
  template <class Number> void number(Number value) {
    static_assert(std::is_arithmetic_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void text(std::string_view value) {
    number<uint64_t>(value.size());
    bytes_ += value;
  }
  template <class Element> void element(const Element& value) {
    if constexpr (std::is_same_v<Element, std::string>) text(value);
    else if constexpr (std::is_same_v<Element, bool>) number<uint8_t>(value);
    else number(value);
  }
  void value(const GgufValue& value) {
    std::visit(
        [&](const auto& held) {
          using Held = std::decay_t<decltype(held)>;
          if constexpr (std::is_same_v<Held, GgufArray>) {
            number(kGgufArray);
            std::visit([&](const auto& elements) { array(elements); }, held);
          } else {
            number(gguf_type_id<Held>());
            element(held);
          }
        },
        value);
  }
  void pad(uint64_t alignment) { bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0'); }
  const std::string& bytes() const { return bytes_; }

 private:
  template <class Element> void array(const std::vector<Element>& elements) {
    number(gguf_type_id<Element>());
    number<uint64_t>(elements.size());
    for (size_t i = 0; i < elements.size(); ++i)
      element<Element>(elements[i]);  // by index: vector<bool> has no references
  }
  std::string bytes_;
};

uint64_t alignment_of(const std::vector<std::pair<std::string, GgufValue>>& metadata,
                      const std::string& file) {
  for (const auto& [key, value] : metadata) {
    if (key != "general.alignment") continue;
    const auto* alignment = std::get_if<uint32_t>(&value);
    if (!alignment || !valid_gguf_alignment(*alignment))
      corrupt(file, key, "must be a 32-bit unsigned power of two from 8 to 65536");
    return *alignment;
  }
  return kGgufAlignment;
}

void check_names(const std::vector<std::pair<std::string, GgufValue>>& metadata,
                 const std::vector<TensorSource>& tensors, const std::string& file) {
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (key.empty() || key.size() > 65535) corrupt(file, key, "a metadata key has 1 to 65535 bytes");
    keys.push_back(key);
  }
  require_unique(std::move(keys), file, "metadata key");
  for (const auto& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > 63)
      corrupt(file, tensor.name, "a tensor's name has 1 to 63 bytes in GGUF");
    if (tensor.shape.size() > 4)
      corrupt(file, tensor.name, fmt::format("has {} dimensions; GGUF allows 4", tensor.shape.size()));
    if (type_info(tensor.type).ggml_id < 0)
      corrupt(file, tensor.name, fmt::format("GGUF has no type {}", type_info(tensor.type).name));
  }
}

}  // namespace

void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                const std::vector<TensorSource>& tensors) {
  const auto alignment = alignment_of(metadata, path.string());
  check_names(metadata, tensors, path.string());
  const auto sizes = sizes_to_write(path, tensors);

  Header header;
  for (const char letter : {'G', 'G', 'U', 'F'}) header.number(letter);
  header.number<uint32_t>(3);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata) {
    header.text(key);
    header.value(value);
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& tensor = tensors[i];
    header.text(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) header.number(*dim);
    header.number(static_cast<uint32_t>(type_info(tensor.type).ggml_id));
    header.number(offset);
    if (!add(offset, sizes[i], offset) || !align_up(offset, alignment, offset))
      corrupt(path.string(), tensor.name, "the file's size overflows 64 bits");
  }
  header.pad(alignment);

  AtomicFile file(path);
  require_space(path.has_parent_path() ? path.parent_path() : ".",
                header.bytes().size() + offset - bytes_of_holes(tensors, sizes));
  file.write(header.bytes());
  const std::string zeros(alignment, '\0');
  for (size_t i = 0; i < tensors.size(); ++i) {
    write_tensor(file, tensors[i], sizes[i]);
    file.write(std::string_view(zeros).substr(0, (alignment - sizes[i] % alignment) % alignment));
  }
  file.commit();
}

}  // namespace retort
