#include "formats/weight_file.h"

#include <algorithm>
#include <numeric>

#include "formats/parse.h"

namespace retort {
namespace {

bool begins(std::span<const std::byte> file, std::string_view magic, size_t offset = 0) {
  return file.size() >= offset + magic.size() &&
         std::memcmp(file.data() + offset, magic.data(), magic.size()) == 0;
}

// The one split set or single file of a folder of GGUF files; empty when there is none.
std::filesystem::path only_gguf(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (entry.path().extension() != ".gguf") continue;
    if (name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos) continue;
    found.push_back(entry.path());
  }
  if (found.size() > 1)
    corrupt(folder.string(), "", fmt::format("holds {} GGUF models; name the file", found.size()));
  return found.empty() ? std::filesystem::path() : found.front();
}

}  // namespace

int64_t TensorView::elements() const {
  int64_t count = 1;
  for (const auto dim : shape) count *= dim;  // checked by the reader
  return count;
}

const TensorView* WeightFile::find(std::string_view name) const {
  if (by_name.size() != tensors.size()) {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const auto& tensor) { return tensor.name == name; });
    return found == tensors.end() ? nullptr : &*found;
  }
  const auto found = std::lower_bound(
      by_name.begin(), by_name.end(), name,
      [&](uint32_t position, std::string_view wanted) { return tensors[position].name < wanted; });
  return found == by_name.end() || tensors[*found].name != name ? nullptr : &tensors[*found];
}

const GgufValue* WeightFile::metadata(std::string_view key) const {
  for (const auto& [name, value] : gguf_metadata)
    if (name == key) return &value;
  return nullptr;
}

void WeightFile::require_unchanged() const {
  const MappedFile* last = nullptr;
  for (const auto& tensor : tensors)
    if (tensor.file && tensor.file.get() != last) (last = tensor.file.get())->require_unchanged();
}

std::optional<int64_t> whole_number(const GgufValue* value) {
  if (!value) return std::nullopt;
  return std::visit(
      [](const auto& held) -> std::optional<int64_t> {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_integral_v<Held> && !std::is_same_v<Held, bool>) {
          if (std::in_range<int64_t>(held)) return static_cast<int64_t>(held);
        }
        return std::nullopt;
      },
      *value);
}

std::optional<double> real_number(const GgufValue* value) {
  if (!value) return std::nullopt;
  return std::visit(
      [](const auto& held) -> std::optional<double> {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<Held> && !std::is_same_v<Held, bool>)
          return static_cast<double>(held);
        return std::nullopt;
      },
      *value);
}

std::optional<bool> truth(const GgufValue* value) {
  const auto* held = value ? std::get_if<bool>(value) : nullptr;
  return held ? std::optional(*held) : std::nullopt;
}

const std::string* text(const GgufValue* value) { return value ? std::get_if<std::string>(value) : nullptr; }

WeightFile open_weights(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    const auto holds = [&](const char* name) {
      return std::filesystem::exists(std::filesystem::symlink_status(path / name, error));
    };
    if (holds("adapter_model.safetensors") && !holds("model.safetensors"))
      return open_safetensors(file_beneath(path, "adapter_model.safetensors"));
    if (!holds("model.safetensors") && !holds("model.safetensors.index.json"))
      if (const auto gguf = only_gguf(path); !gguf.empty()) return open_gguf(gguf);
    return open_safetensors_folder(path);
  }
  const bool gguf = begins(MappedFile(path).bytes(), "GGUF");
  return gguf ? open_gguf(path) : open_safetensors(path);
}

TensorSource tensor_source(std::string name, WeightType type, std::vector<int64_t> shape,
                           std::span<const std::byte> data) {
  return {std::move(name), type, std::move(shape), [data](const auto& sink) { sink(data); }};
}

void refuse_foreign(std::span<const std::byte> file, std::string_view name) {
  using namespace std::string_view_literals;
  constexpr auto kAsk = "weights are read from .safetensors and .gguf files";
  struct Foreign {
    std::string_view magic;
    size_t offset;
    const char* what;
  };
  constexpr Foreign kForeign[] = {
      {"PK\x03\x04"sv, 0, "a zip archive (perhaps a PyTorch pickle); archives and pickles are never opened"},
      {"PK\x05\x06"sv, 0, "an empty zip archive; archives are never opened"},
      {"\x80\x02"sv, 0, "a pickle; pickles run code and are never opened"},
      {"\x80\x03"sv, 0, "a pickle; pickles run code and are never opened"},
      {"\x80\x04"sv, 0, "a pickle; pickles run code and are never opened"},
      {"\x80\x05"sv, 0, "a pickle; pickles run code and are never opened"},
      {"\x93NUMPY"sv, 0, "a NumPy array; NumPy files are never opened"},
      {"\x1f\x8b"sv, 0, "a gzip archive; archives are never opened"},
      {"BZh"sv, 0, "a bzip2 archive; archives are never opened"},
      {"\xfd"
       "7zXZ"sv,
       0, "an xz archive; archives are never opened"},
      {"\x28\xb5\x2f\xfd"sv, 0, "a zstd archive; archives are never opened"},
      {"7z\xbc\xaf\x27\x1c"sv, 0, "a 7z archive; archives are never opened"},
      {"Rar!"sv, 0, "a RAR archive; archives are never opened"},
      {"ustar"sv, 257, "a tar archive; archives are never opened"},
      {"\x89HDF"sv, 0, "an HDF5 file"},
      {"ggjt"sv, 0, "a GGML file from before GGUF; convert it with llama.cpp first"},
      {"tjgg"sv, 0, "a GGML file from before GGUF; convert it with llama.cpp first"},
      {"version https://git-lfs"sv, 0,
       "a Git LFS pointer, not the weights themselves; fetch them with 'git lfs pull'"},
      {"<!DOCTYPE"sv, 0, "a web page; was the download refused?"},
      {"<html"sv, 0, "a web page; was the download refused?"},
  };
  for (const auto& foreign : kForeign) {
    // A two-byte magic may also begin a safetensors file whose header is that long; its brace at byte 8 tells
    // them apart.
    if (foreign.magic.size() == 2 && begins(file, "{", 8)) continue;
    if (begins(file, foreign.magic, foreign.offset))
      corrupt(name, "", fmt::format("is {}; {}", foreign.what, kAsk));
  }
}

uint64_t tensor_bytes(WeightType type, const std::vector<int64_t>& shape, std::string_view file,
                      std::string_view tensor) {
  const auto& info = type_info(type);
  const auto row = row_bytes(type, shape.empty() ? 1 : static_cast<uint64_t>(shape.back()));
  if (!row)
    corrupt(file, tensor,
            fmt::format("shape {} as {}: a row must be a multiple of {} elements and fit 64 bits",
                        describe_shape(shape), info.name, info.block_elements));
  // A zero among the dimensions does not excuse the others: whoever multiplies them in another order would
  // wrap.
  uint64_t total = *row, elements = 1;
  bool fits = true, empty = false;
  for (size_t i = 0; i < shape.size(); ++i) {
    const auto dim = static_cast<uint64_t>(std::max<int64_t>(shape[i], 1));
    empty = empty || shape[i] == 0;
    fits =
        fits && multiply(elements, dim, elements) && (i + 1 == shape.size() || multiply(total, dim, total));
  }
  if (!fits || elements > INT64_MAX || total > INT64_MAX)
    corrupt(file, tensor, fmt::format("shape {} overflows 64 bits", describe_shape(shape)));
  return empty ? 0 : total;
}

std::string describe_shape(const std::vector<int64_t>& shape) {
  if (shape.size() > 8) return fmt::format("of {} dimensions", shape.size());
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void require_unique(std::vector<std::string_view> names, std::string_view file, std::string_view what) {
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) corrupt(file, *twice, fmt::format("this {} stands twice", what));
}

void index_names(WeightFile& weights) {
  const auto& tensors = weights.tensors;
  auto& order = weights.by_name;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  for (size_t i = 1; i < order.size(); ++i) {
    const auto &one = tensors[order[i - 1]], &other = tensors[order[i]];
    if (one.name != other.name) continue;
    if (one.file == other.file) corrupt(weights.path.string(), one.name, "this tensor stands twice");
    corrupt(weights.path.string(), one.name,
            fmt::format("this tensor is in two shards, {} and {}", printable(one.file->name()),
                        printable(other.file->name())));
  }
}

WeightFile as_weight_file(std::shared_ptr<const MappedFile> file, ParsedFile parsed) {
  WeightFile weights;
  weights.path = file->name();
  weights.gguf_metadata = std::move(parsed.gguf_metadata);
  weights.safetensors_metadata = std::move(parsed.safetensors_metadata);
  weights.tensors.reserve(parsed.tensors.size());
  for (auto& tensor : parsed.tensors)
    weights.tensors.push_back({std::move(tensor.name), tensor.type, std::move(tensor.shape),
                               file->bytes().subspan(tensor.begin, tensor.end - tensor.begin), file});
  return weights;
}

std::vector<uint64_t> sizes_to_write(const std::filesystem::path& file,
                                     const std::vector<TensorSource>& tensors) {
  std::vector<std::string_view> names;
  std::vector<uint64_t> sizes;
  for (const auto& tensor : tensors) {
    for (const auto dim : tensor.shape)
      if (dim < 0)
        corrupt(file.string(), tensor.name,
                fmt::format("shape {} has a negative dimension", describe_shape(tensor.shape)));
    names.push_back(tensor.name);
    sizes.push_back(tensor_bytes(tensor.type, tensor.shape, file.string(), tensor.name));
  }
  require_unique(std::move(names), file.string(), "tensor");
  return sizes;
}

uint64_t bytes_of_holes(const std::vector<TensorSource>& tensors, const std::vector<uint64_t>& sizes) {
  uint64_t holes = 0;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (!tensors[i].fill) holes += sizes[i];
  return holes;
}

void write_tensor(AtomicFile& file, const TensorSource& tensor, uint64_t expected) {
  if (!tensor.fill) return file.skip(expected);
  uint64_t written = 0;
  tensor.fill([&](std::span<const std::byte> part) {
    written += part.size();
    if (written > expected)
      throw std::logic_error(fmt::format("{}: fill gave more than its {} bytes", tensor.name, expected));
    file.write(part);
  });
  if (written != expected)
    throw std::logic_error(fmt::format("{}: fill gave {} of {} bytes", tensor.name, written, expected));
}

}  // namespace retort
