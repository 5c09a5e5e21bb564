// safetensors: u64 header length, JSON header, data. The checks are those of the reference reader
// (huggingface/safetensors, tensor.rs): the tensors tile the data exactly, without gap or overlap.
#include <algorithm>

#include "formats/parse.h"

namespace retort {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the reference reader's limit

// Reads the header without building a tree. States follow the nesting: header -> tensor -> shape or offsets,
// or metadata.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(std::string_view file, ParsedFile& out) : file_(file), out_(out) {}

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("true or false"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return refuse("a number with fraction, exponent or more than 64 bits");
  }
  bool binary(binary_t&) override { return refuse("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > INT64_MAX) return refuse("a dimension above 2^63");
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
    } else {
      return refuse("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      if (!out_.safetensors_metadata.emplace(key_, value).second)
        corrupt(file_, key_, "this key stands twice in __metadata__");
    } else if (place_ == Place::tensor && key_ == "dtype") {
      const auto type = type_from_safetensors(value);
      if (!type)
        corrupt(file_, tensor_.name, fmt::format("dtype '{}' is unknown or not supported", printable(value)));
      tensor_.type = *type;
    } else {
      return refuse("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::header;
    } else if (place_ == Place::header && key_ == "__metadata__") {
      if (metadata_seen_) corrupt(file_, key_, "stands twice");
      metadata_seen_ = true;
      place_ = Place::metadata;
    } else if (place_ == Place::header) {
      tensor_ = {};
      tensor_.name = key_;
      dtype_seen_ = shape_seen_ = offsets_seen_ = false;
      place_ = Place::tensor;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    key_ = name;
    if (place_ != Place::tensor) return true;
    bool* seen = name == "dtype"          ? &dtype_seen_
                 : name == "shape"        ? &shape_seen_
                 : name == "data_offsets" ? &offsets_seen_
                                          : nullptr;
    if (!seen)
      corrupt(file_, tensor_.name,
              fmt::format("unknown key '{}'; expected dtype, shape and data_offsets", printable(name)));
    if (*seen) corrupt(file_, tensor_.name, fmt::format("the key '{}' stands twice", name));
    return *seen = true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      if (!dtype_seen_ || !shape_seen_ || !offsets_seen_)
        corrupt(file_, tensor_.name, "needs dtype, shape and data_offsets");
      out_.tensors.push_back(std::move(tensor_));
    }
    place_ = place_ == Place::header ? Place::outside : Place::header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || key_ == "dtype") return refuse("an array");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2)
      corrupt(file_, tensor_.name, fmt::format("data_offsets holds {} numbers; expected 2", offsets_));
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    corrupt(file_, fmt::format("byte {}", position + 7),
            "the header is not valid JSON here");  // position counts from 1, after the 8 length bytes
  }

 private:
  enum class Place { outside, header, metadata, tensor, shape, offsets };

  [[noreturn]] bool refuse(std::string_view found) const {
    const bool inside = place_ == Place::tensor || place_ == Place::shape || place_ == Place::offsets;
    const auto expected = place_ == Place::outside    ? "expected an object"
                          : place_ == Place::header   ? "expected a tensor's object"
                          : place_ == Place::metadata ? "expected a string"
                          : place_ == Place::tensor   ? "does not belong there"
                          : place_ == Place::shape    ? "expected whole numbers from 0"
                                                      : "expected two whole numbers from 0";
    if (inside)
      corrupt(file_, tensor_.name, fmt::format("{} holds {}; {}", printable(key_), found, expected));
    corrupt(file_, key_.empty() ? "header" : std::string_view(key_),
            fmt::format("found {}; {}", found, expected));
  }

  std::string_view file_;
  ParsedFile& out_;
  Place place_ = Place::outside;
  std::string key_;
  StoredTensor tensor_;
  int offsets_ = 0;
  bool metadata_seen_ = false, dtype_seen_ = false, shape_seen_ = false, offsets_seen_ = false;
};

// Ranges are relative to the data while they are checked, and to the file afterwards.
void check_ranges(std::vector<StoredTensor>& tensors, uint64_t data_start, uint64_t data_bytes,
                  std::string_view file) {
  const auto describe = [](const StoredTensor& tensor) {
    return fmt::format("[{}, {})", tensor.begin, tensor.end);
  };
  for (const auto& tensor : tensors) {
    const auto expected = tensor_bytes(tensor.type, tensor.shape, file, tensor.name);
    if (tensor.begin > tensor.end || tensor.end > data_bytes)
      corrupt(file, tensor.name,
              fmt::format("its data {} lies outside the file's {} of data; is the download complete?",
                          describe(tensor), bytes(data_bytes)));
    if (tensor.end - tensor.begin != expected)
      corrupt(file, tensor.name,
              fmt::format("shape {} as {} needs {}, data_offsets {} give {}", describe_shape(tensor.shape),
                          type_info(tensor.type).name, bytes(expected), describe(tensor),
                          bytes(tensor.end - tensor.begin)));
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t reached = 0;
  for (auto& tensor : tensors) {
    if (tensor.begin != reached)
      corrupt(file, tensor.name,
              fmt::format("its data {} {}; expected to begin at {}", describe(tensor),
                          tensor.begin < reached ? "overlaps another tensor's" : "leaves a hole before it",
                          reached));
    reached = tensor.end;
    tensor.begin += data_start;
    tensor.end += data_start;
  }
  if (reached != data_bytes)
    corrupt(file, "", fmt::format("{} follow the last tensor; expected none", bytes(data_bytes - reached)));
}

}  // namespace

ParsedFile parse_safetensors(std::span<const std::byte> file, std::string_view name) {
  refuse_foreign(file, name);
  ByteReader in(file, name);
  const auto length = in.number<uint64_t>("the header's length");
  if (length > kLongestHeader)
    corrupt(name, "byte 0",
            fmt::format("the header is {} long; at most {} are allowed; is this a safetensors file?",
                        bytes(length), kLongestHeader));
  const auto header = in.text(length, "the header");
  if (header.empty() || header.front() != '{')
    corrupt(name, "byte 8", "the header must begin with '{'; is this a safetensors file?");
  if (const auto nul = header.find('\0'); nul != header.npos)
    corrupt(name, fmt::format("byte {}", nul + 8), "the header holds a NUL byte");

  ParsedFile parsed;
  HeaderReader reader(name, parsed);
  try {
    Json::sax_parse(header.begin(), header.end(), &reader);
  } catch (const nlohmann::detail::exception&) { corrupt(name, "header", "is not valid JSON"); }
  std::vector<std::string_view> names;
  names.reserve(parsed.tensors.size());
  for (const auto& tensor : parsed.tensors) {
    if (tensor.name.empty() || tensor.name.find('\0') != std::string::npos)
      corrupt(name, tensor.name, "a tensor's name is empty or holds a NUL");
    names.push_back(tensor.name);
  }
  require_unique(std::move(names), name, "tensor");
  check_ranges(parsed.tensors, in.offset(), in.left(), name);
  return parsed;
}

WeightFile open_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  auto weights = as_weight_file(file, parse_safetensors(file->bytes(), file->name()));
  index_names(weights);
  file->require_unchanged();
  return weights;
}

}  // namespace retort
