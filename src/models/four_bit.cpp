#include "models/four_bit.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "quant/finite.h"
#include "quant/nf4.h"

namespace retort {
namespace {

using Method = FourBitConfig::Method;

constexpr int64_t kLongest = 1 << 20;  // block of bitsandbytes

[[noreturn]] void fail(const TensorView& tensor, const std::string& problem) {
  corrupt(tensor.file->name(), tensor.name, problem);
}

const TensorView& need(const WeightFile& file, const std::string& name) {
  const auto* tensor = file.find(name);
  if (!tensor) corrupt(file.path.string(), name, "missing from the file; is the download complete?");
  return *tensor;
}

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

void require_finite(const TensorView& tensor) {
  if (const auto found = first_not_finite(tensor.type, tensor.data))
    fail(tensor, fmt::format("scale {} is not finite; is the file whole?", *found));
}

void require_floats(const TensorView& tensor, int64_t count) {
  if (tensor.type != WeightType::f32 && tensor.type != WeightType::f16 && tensor.type != WeightType::bf16)
    fail(tensor, fmt::format("expected F32, F16 or BF16, found {}", type_info(tensor.type).name));
  if (tensor.elements() != count)
    fail(tensor, fmt::format("{} numbers, and the matrix has {} of them", tensor.elements(), count));
}

void require_shape(const TensorView& tensor, WeightType type, const std::vector<int64_t>& shape) {
  if (tensor.type != type)
    fail(tensor, fmt::format("expected {}, found {}", type_info(type).name, type_info(tensor.type).name));
  if (tensor.shape != shape)
    fail(tensor, fmt::format("has shape [{}]; the matrix needs [{}]", fmt::join(tensor.shape, ", "),
                             fmt::join(shape, ", ")));
}

std::vector<float> floats_of(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  dequantize_rows(tensor.type, tensor.data.data(), values.data(), 1, tensor.elements());
  return values;
}

// --- bitsandbytes ---

// The JSON that bitsandbytes packs into a tensor of bytes beside the codes.
class QuantState {
 public:
  explicit QuantState(const TensorView& tensor) : tensor_(tensor) {
    if (tensor.type != WeightType::u8) fail(tensor, "expected bytes of JSON");
    json_ = parse_json({reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()},
                       tensor.file->name() + ": " + printable(tensor.name));
    if (!json_.is_object()) fail(tensor, "expected a section");
    for (const auto& [key, value] : json_.items())
      if (key != "quant_type" && key != "blocksize" && key != "dtype" && key != "shape" &&
          !key.starts_with("nested_"))
        fail(tensor, printable(key) + " is not known here, and might change what the weights are");
  }
  int64_t whole(const Json& value, const char* key, int64_t most) const {
    const auto number = whole_number(value);
    if (!number || *number < 1 || *number > static_cast<uint64_t>(most))
      fail(tensor_, fmt::format("{}: expected a whole number from 1 to {}", key, most));
    return static_cast<int64_t>(*number);
  }
  int64_t whole(const char* key, int64_t most) const { return whole(at(key), key, most); }
  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(tensor_, std::string(key) + ": missing");
    return *found;
  }

 private:
  const TensorView& tensor_;
  Json json_;
};

// The table that bitsandbytes computes with is its own; the file's is what it was when it was written.
void require_book(const TensorView& map, std::span<const float, 16> book) {
  require_floats(map, 16);
  const auto values = floats_of(map);
  for (size_t i = 0; i < 16; ++i)
    if (!(std::abs(values[i] - book[i]) < 1e-4F))
      fail(map, fmt::format("value {} is {}, where bitsandbytes has {}", i, values[i], book[i]));
}

std::span<const float, 16> book_of(const FourBitMatrix& matrix) {
  if (is_e2m1(matrix.config.method)) return kE2m1Values;
  if (matrix.config.method != Method::bitsandbytes) return kWholeCodes;
  return matrix.fp4 ? std::span<const float, 16>(kFp4Values) : std::span<const float, 16>(kNf4Values);
}

std::optional<FourBitMatrix> find_bitsandbytes(const WeightFile& file, const FourBitConfig& config,
                                               const std::string& name) {
  const TensorView* state = nullptr;
  FourBitMatrix matrix{config};
  for (const char* kind : {"nf4", "fp4"})
    if (const auto* found = file.find(name + ".quant_state.bitsandbytes__" + kind)) {
      if (state) fail(*found, "the matrix has a state of nf4 too");
      state = found, matrix.fp4 = std::string_view(kind) == "fp4";
    }
  if (!state) {
    const auto* scales = file.find(name + ".absmax");
    if (scales)
      fail(*scales, "no tensor " + name +
                        ".quant_state.bitsandbytes__nf4 says what it belongs to; is the "
                        "download complete?");
    return std::nullopt;
  }
  const QuantState json(*state);
  if (json.at("quant_type") != (matrix.fp4 ? "fp4" : "nf4"))
    fail(*state, "quant_type: expected that of the tensor's name");
  const auto& shape = json.at("shape");
  if (!shape.is_array() || shape.size() != 2) fail(*state, "shape: expected that of a matrix");
  matrix.rows = json.whole(shape[0], "shape", int64_t{1} << 31);
  matrix.columns = json.whole(shape[1], "shape", int64_t{1} << 31);
  if (matrix.columns % 2 != 0) fail(*state, "shape: an odd number of columns is not read here");
  matrix.block = json.whole("blocksize", kLongest);
  if (matrix.block % 2 != 0) fail(*state, "blocksize: expected an even number");
  const auto elements = matrix.rows * matrix.columns, blocks = parts(elements, matrix.block);
  matrix.codes = &need(file, name);
  if (matrix.codes->data.size() != static_cast<size_t>(elements / 2))
    fail(*matrix.codes, fmt::format("{} bytes; a matrix [{}, {}] of 4-bit codes has {}",
                                    matrix.codes->data.size(), matrix.rows, matrix.columns, elements / 2));
  require_book(need(file, name + ".quant_map"), book_of(matrix));
  matrix.scales = &need(file, name + ".absmax");
  if (matrix.scales->type != WeightType::u8) {
    require_floats(*matrix.scales, blocks);
    return matrix;
  }
  require_shape(*matrix.scales, WeightType::u8, {blocks});
  matrix.nested_block = json.whole("nested_blocksize", kLongest);
  matrix.nested_scales = &need(file, name + ".nested_absmax");
  matrix.nested_map = &need(file, name + ".nested_quant_map");
  require_floats(*matrix.nested_scales, parts(blocks, matrix.nested_block));
  require_floats(*matrix.nested_map, 256);
  const auto& offset = json.at("nested_offset");
  matrix.nested_offset = offset.is_number() ? offset.get<float>() : std::nanf("");
  if (!std::isfinite(matrix.nested_offset)) fail(*state, "nested_offset: expected a number");
  return matrix;
}

Weight read_bitsandbytes(const FourBitMatrix& matrix) {
  const auto blocks = matrix.scales->elements();
  CodeScales scales;
  scales.scales = at::empty({blocks}, at::TensorOptions(at::kFloat));
  auto* out = scales.scales.mutable_data_ptr<float>();
  if (matrix.nested_block > 0) {
    for (const auto* tensor : {matrix.nested_scales, matrix.nested_map}) require_finite(*tensor);
    const auto maxima = floats_of(*matrix.nested_scales), map = floats_of(*matrix.nested_map);
    decode_nested_scales(reinterpret_cast<const uint8_t*>(matrix.scales->data.data()), blocks, map.data(),
                         maxima.data(), matrix.nested_block, matrix.nested_offset, out);
  } else {
    require_finite(*matrix.scales);
    dequantize_rows(matrix.scales->type, matrix.scales->data.data(), out, 1, blocks);
  }
  scales.group_columns = matrix.block;
  scales.book = book_of(matrix);
  scales.high_first = true;
  matrix.codes->file->fetch(matrix.codes->data);
  return packed4_weight(matrix.rows, matrix.columns, matrix.codes->data, matrix.codes->file,
                        std::move(scales));
}

// --- GPTQ and AWQ: words of 8 codes ---

std::optional<FourBitMatrix> find_words(const WeightFile& file, const FourBitConfig& config,
                                        const std::string& name) {
  const bool gptq = config.method == Method::gptq;
  const auto module = name.substr(0, name.size() - std::string_view(".weight").size());
  FourBitMatrix matrix{config};
  matrix.codes = file.find(module + ".qweight");
  if (!matrix.codes) {
    if (const auto* scales = file.find(module + ".scales"))
      fail(*scales, "no tensor " + module + ".qweight has the codes; is the download complete?");
    return std::nullopt;
  }
  if (file.find(name)) fail(*matrix.codes, "the matrix stands twice, under " + printable(name) + " too");
  const auto& shape = matrix.codes->shape;
  if (matrix.codes->type != WeightType::i32 || shape.size() != 2 || shape[0] < 1 || shape[1] < 1 ||
      shape[0] > int64_t{1} << 31 || shape[1] > int64_t{1} << 31)
    fail(*matrix.codes, "expected a matrix of I32");
  matrix.columns = gptq ? shape[0] * 8 : shape[0];
  matrix.rows = gptq ? shape[1] : shape[1] * 8;
  if (matrix.columns % 2 != 0) fail(*matrix.codes, "an odd number of inputs is not read here");
  const auto groups = matrix.groups();
  matrix.scales = &need(file, module + ".scales");
  if (matrix.scales->shape != std::vector{groups, matrix.rows})
    fail(*matrix.scales,
         fmt::format("has shape [{}]; a matrix [{}, {}] in groups of {} has [{}, {}] (config.json's "
                     "group_size)",
                     fmt::join(matrix.scales->shape, ", "), matrix.rows, matrix.columns,
                     matrix.group_columns(), groups, matrix.rows));
  require_floats(*matrix.scales, groups * matrix.rows);
  matrix.zeros = &need(file, module + ".qzeros");
  require_shape(*matrix.zeros, WeightType::i32, {groups, parts(matrix.rows, 8)});
  if (!gptq) return matrix;
  matrix.group_of = config.any_order ? &need(file, module + ".g_idx") : file.find(module + ".g_idx");
  if (matrix.group_of) require_shape(*matrix.group_of, WeightType::i32, {matrix.columns});
  return matrix;
}

uint32_t word_at(const std::byte* words, int64_t i) {
  uint32_t word;
  std::memcpy(&word, words + 4 * i, 4);
  return word;
}

// In which nibble of AWQ's words the columns stand.
constexpr int kAwqPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// GPTQ's words hold 8 inputs of one row: the bytes of a row as they are, but words of rows stand side by
// side.
void rows_of_gptq(const FourBitMatrix& matrix, std::byte* out) {
  const auto rows = matrix.rows, words = matrix.columns / 8;
  const auto* in = matrix.codes->data.data();
  at::parallel_for(0, parts(rows, 16), 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = 0; w < words; ++w)
      for (int64_t r = begin * 16; r < std::min(rows, end * 16); ++r) {
        const auto word = word_at(in, w * rows + r);
        std::memcpy(out + (r * words + w) * 4, &word, 4);
      }
  });
}

// AWQ's words hold 8 rows of one input.
void rows_of_awq(const FourBitMatrix& matrix, std::byte* out) {
  const auto columns = matrix.columns, words = matrix.rows / 8, row_bytes = columns / 2;
  const auto* in = matrix.codes->data.data();
  at::parallel_for(0, words, 8, [&](int64_t begin, int64_t end) {
    for (int64_t c = 0; c < columns; c += 8)
      for (int64_t w = begin; w < end; ++w) {
        uint32_t from[8] = {};
        const auto some = std::min<int64_t>(8, columns - c);
        for (int64_t i = 0; i < some; ++i) from[i] = word_at(in, (c + i) * words + w);
        for (int r = 0; r < 8; ++r) {
          uint32_t word = 0;
          for (int i = 0; i < 8; ++i) word |= (from[i] >> 4 * kAwqPlace[r] & 15) << 4 * i;
          std::memcpy(out + (w * 8 + r) * row_bytes + c / 2, &word, static_cast<size_t>(some / 2));
        }
      }
  });
}

// Zero points as numbers, [rows, groups]. GPTQ's first format stores them less one, and so that whole words
// are what they were less 0x11111111: a zero point of 0 borrows from its neighbour (GPTQModel, which wrote
// and reads it so).
at::Tensor zeros_of(const FourBitMatrix& matrix) {
  const bool gptq = matrix.config.method == Method::gptq;
  const auto groups = matrix.groups(), rows = matrix.rows, words = parts(rows, 8);
  auto zeros = at::empty({rows, groups}, at::TensorOptions(at::kByte));
  auto* out = zeros.mutable_data_ptr<uint8_t>();
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t w = 0; w < words; ++w) {
      auto word = word_at(matrix.zeros->data.data(), g * words + w);
      if (matrix.config.zeros_less_one) word += 0x11111111U;
      for (int64_t r = w * 8; r < std::min(rows, w * 8 + 8); ++r)
        out[r * groups + g] = word >> 4 * (gptq ? r % 8 : kAwqPlace[r % 8]) & 15;
    }
  return zeros;
}

// Undefined where groups are in their order.
at::Tensor order_of(const FourBitMatrix& matrix) {
  if (!matrix.group_of) return {};
  const auto groups = matrix.groups(), size = matrix.group_columns();
  auto order = at::empty({matrix.columns}, at::TensorOptions(at::kInt));
  auto* out = order.mutable_data_ptr<int32_t>();
  bool in_order = true;
  for (int64_t i = 0; i < matrix.columns; ++i) {
    out[i] = static_cast<int32_t>(word_at(matrix.group_of->data.data(), i));
    if (out[i] < 0 || out[i] >= groups)
      fail(*matrix.group_of, fmt::format("input {} is in group {}, of {}", i, out[i], groups));
    in_order = in_order && out[i] == i / size;
  }
  return in_order ? at::Tensor() : order;
}

Weight read_words(const FourBitMatrix& matrix) {
  require_finite(*matrix.scales);
  const auto groups = matrix.groups();
  auto stored = at::empty({groups, matrix.rows}, at::TensorOptions(at::kFloat));
  dequantize_rows(matrix.scales->type, matrix.scales->data.data(), stored.mutable_data_ptr<float>(), 1,
                  stored.numel());
  CodeScales scales;
  scales.scales = stored.t().contiguous();
  scales.zeros = zeros_of(matrix);
  scales.group_of = order_of(matrix);
  scales.groups = groups;
  scales.group_columns = matrix.group_columns();
  auto buffer = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(matrix.rows) *
                                                         static_cast<size_t>(matrix.columns / 2));
  if (matrix.config.method == Method::gptq) rows_of_gptq(matrix, buffer->data());
  else rows_of_awq(matrix, buffer->data());
  const std::span<const std::byte> codes(*buffer);
  return packed4_weight(matrix.rows, matrix.columns, codes, buffer, std::move(scales));
}

// --- MXFP4 and NVFP4: E2M1 codes, two in a byte, the first in its low nibble ---

std::optional<FourBitMatrix> find_e2m1(const WeightFile& file, const FourBitConfig& config,
                                       const std::string& name) {
  const auto module = name.substr(0, name.size() - std::string_view(".weight").size());
  const bool modelopt = config.method == Method::modelopt;
  FourBitMatrix matrix{config};
  const auto* plain = file.find(name);
  matrix.codes = modelopt ? plain : file.find(module + ".weight_packed");
  const auto* scales = file.find(module + ".weight_scale");
  if (!matrix.codes || matrix.codes->type != WeightType::u8) {
    if (scales)
      fail(*scales, fmt::format("no tensor {} has its codes as U8; is the download complete?",
                                printable(modelopt ? name : module + ".weight_packed")));
    return std::nullopt;
  }
  if (!modelopt && plain) fail(*matrix.codes, "the matrix stands twice, under " + printable(name) + " too");
  for (const char* more : {".weight_zero_point", ".pre_quant_scale", ".weight_g_idx"})
    if (const auto* tensor = file.find(module + more))
      fail(*tensor, "is not known here, and changes what the weights are");
  const auto& shape = matrix.codes->shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[1] > int64_t{1} << 30)
    fail(*matrix.codes, "expected a matrix of bytes");
  matrix.rows = shape[0], matrix.columns = 2 * shape[1];
  if (matrix.columns % config.group_size != 0)
    fail(*matrix.codes,
         fmt::format("{} inputs are no whole number of blocks of {}", matrix.columns, config.group_size));
  matrix.scales = &need(file, module + ".weight_scale");
  // PyTorch writes E8M0 as bytes where its writer knew no such type.
  const auto type = config.method == Method::mxfp4
                        ? matrix.scales->type == WeightType::u8 ? WeightType::u8 : WeightType::f8_e8m0
                        : WeightType::f8_e4m3;
  require_shape(*matrix.scales, type, {matrix.rows, matrix.groups()});
  if (config.method == Method::mxfp4) return matrix;
  matrix.global_scale = &need(file, module + (modelopt ? ".weight_scale_2" : ".weight_global_scale"));
  if (matrix.global_scale->type != WeightType::f32 || matrix.global_scale->elements() != 1)
    fail(*matrix.global_scale, "expected one number of F32");
  return matrix;
}

// The block's scale as its library computes it, in fp32: E4M3 over compressed-tensors' global scale, or times
// ModelOpt's.
Weight read_e2m1(const FourBitMatrix& matrix) {
  const auto global = matrix.global_scale ? floats_of(*matrix.global_scale)[0] : 1.0F;
  if (!std::isfinite(global) || global <= 0)
    fail(*matrix.global_scale, fmt::format("is {}; expected a positive number", global));
  CodeScales scales;
  scales.scales = at::empty({matrix.scales->elements()}, at::TensorOptions(at::kFloat));
  auto* out = scales.scales.mutable_data_ptr<float>();
  const auto& stored = *matrix.scales;
  const auto type = matrix.config.method == Method::mxfp4 ? WeightType::f8_e8m0 : stored.type;
  dequantize_rows(type, stored.data.data(), out, 1, stored.elements());
  for (int64_t i = 0; i < stored.elements(); ++i) {
    if (matrix.config.method == Method::nvfp4) out[i] /= global;
    if (matrix.config.method == Method::modelopt) out[i] *= global;
    if (!std::isfinite(kE2m1Values[7] * out[i]))
      fail(stored, fmt::format("scale {} makes numbers that are not finite; is the file whole?", i));
  }
  scales.groups = matrix.groups();
  scales.group_columns = matrix.group_columns();
  scales.book = book_of(matrix);
  matrix.codes->file->fetch(matrix.codes->data);
  return packed4_weight(matrix.rows, matrix.columns, matrix.codes->data, matrix.codes->file,
                        std::move(scales));
}

}  // namespace

std::optional<FourBitMatrix> find_four_bit(const WeightFile& file, const FourBitConfig& config,
                                           const std::string& name) {
  if (is_e2m1(config.method)) return find_e2m1(file, config, name);
  return config.method == Method::bitsandbytes ? find_bitsandbytes(file, config, name)
                                               : find_words(file, config, name);
}

Weight read_four_bit(const FourBitMatrix& matrix) {
  if (is_e2m1(matrix.config.method)) return read_e2m1(matrix);
  return matrix.config.method == Method::bitsandbytes ? read_bitsandbytes(matrix) : read_words(matrix);
}

uint64_t held_bytes(const FourBitMatrix& matrix) {
  const auto codes = static_cast<uint64_t>(matrix.rows) * static_cast<uint64_t>(matrix.columns) / 2;
  const auto scales = static_cast<uint64_t>(matrix.scales->elements());
  return codes + scales * (matrix.zeros ? 5 : 4);
}

void release(const FourBitMatrix& matrix) {
  for (const auto* tensor :
       {matrix.codes, matrix.scales, matrix.zeros, matrix.group_of, matrix.nested_scales})
    if (tensor) tensor->file->release(tensor->data);
}

}  // namespace retort
