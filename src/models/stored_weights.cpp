#include "models/stored_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "models/fp8_matrix.h"
#include "models/gguf_heads.h"
#include "models/layers.h"
#include "quant/finite.h"

namespace retort {

std::optional<WeightType> wanted_type(const ModelSpec& spec) {
  if (spec.weights == "keep") return std::nullopt;
  if (spec.weights == "nf4") return spec.double_quant ? WeightType::nf4_dq : WeightType::nf4;
  if (spec.weights == "int8") return WeightType::int8_row;
  const auto type = type_from_name(spec.weights);
  if (!type) throw RecipeError("model.weights: unknown type '" + printable(spec.weights) + "'");
  return type;
}

StoredWeights::StoredWeights(WeightFile file, ModelConfig config, bool gguf, const ModelSpec& spec)
    : file_(std::move(file)),
      config_(std::move(config)),
      gguf_(gguf),
      wanted_(wanted_type(spec)),
      integers_(spec.compute == "int8") {}

Linear StoredWeights::linear(const TensorPlace& place) const {
  Linear layer;
  auto base = base_of(place, true);
  layer.weight = std::move(base.weight);
  layer.int8_scales = std::move(base.int8_scales);
  layer.bias = bias_of(place);
  return layer;
}

Linear StoredWeights::linear_without(const TensorPlace& place) const {
  Linear layer;
  const auto stored = matrix_at(place);
  layer.weight = absent_weight(held_type(place, stored), stored.rows, stored.columns);
  layer.bias = bias_of(place);
  return layer;
}

BaseMatrix StoredWeights::base_of(const TensorPlace& place, bool first) const {
  BaseMatrix base;
  base.weight = stored_matrix(place, first);
  base.weight = convert_weight(base.weight, held_type(place, matrix_at(place)));
  drop_pages(base.weight, place);
  if (integers_) base.int8_scales = int8_row_scales(base.weight);
  return base;
}

void StoredWeights::give_back(const TensorPlace& place) const {
  if (const auto heads = heads_at(place)) return give_back(*heads);
  const auto stored = matrix_at(place);
  if (stored.four_bit) release(*stored.four_bit);
  else stored.tensor.file->release(stored.tensor.data);
}

uint64_t StoredWeights::held_bytes(const TensorPlace& place) const {
  const auto stored = matrix_at(place);
  const auto type = held_type(place, stored);
  if (type == WeightType::packed4) return retort::held_bytes(*stored.four_bit);
  const auto row = row_bytes(type, static_cast<uint64_t>(stored.columns));
  return static_cast<uint64_t>(stored.rows) * row.value_or(0);
}

uint64_t StoredWeights::file_bytes(const TensorPlace& place) const {
  if (const auto heads = heads_at(place)) return heads->keys.data.size() + heads->values.data.size();
  const auto stored = matrix_at(place);
  return stored.four_bit ? retort::held_bytes(*stored.four_bit) : stored.tensor.data.size();
}

Weight StoredWeights::matrix(const TensorPlace& place) const {
  auto weight = stored_matrix(place);
  if (wanted_ && !is_block_quantized(*wanted_)) weight = convert_weight(weight, *wanted_);
  drop_pages(weight, place);
  return weight;
}

Tensor StoredWeights::vector(const TensorPlace& place) const {
  const auto tensor = need(place);
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    fail(place, fmt::format("expected a vector or a matrix, found {} dimensions", tensor.shape.size()));
  if (type_info(tensor.type).block_elements != 1 || tensor.type == WeightType::f8_e4m3)
    fail(place, "expected a dense tensor");
  auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
  require_finite(tensor);
  dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
  const auto here = placed(place);
  if (here.plus_one) values.sub_(1);
  if (here.permuted_heads > 0)
    values = values.index_select(0, order(here.permuted_heads, values.size(0), place));
  return values;
}

void StoredWeights::give_back(const StoredHeads& heads) {
  for (const auto& each : {heads.keys, heads.values}) each.file->release(each.data);
}

StoredWeights::StoredMatrix StoredWeights::matrix_at(const TensorPlace& place) const {
  if (auto four_bit = four_bit_at(place))
    return {WeightType::packed4, four_bit->rows, four_bit->columns, *four_bit->codes, four_bit};
  if (const auto heads = heads_at(place)) {
    const auto& latent = *config_.latent;
    const auto type = heads->keys.type == heads->values.type && !is_block_quantized(heads->keys.type)
                          ? heads->keys.type
                          : WeightType::f32;
    return {type, config_.heads * (latent.nope_dim + latent.value_dim), latent.kv_rank, heads->values,
            std::nullopt};
  }
  const auto tensor = matrix_view(place);
  return {tensor.type, tensor.shape[0], tensor.shape[1], tensor, std::nullopt};
}

std::optional<FourBitMatrix> StoredWeights::four_bit_at(const TensorPlace& place) const {
  if (!config_.four_bit || gguf_) return std::nullopt;
  return find_four_bit(file_, *config_.four_bit, placed(place).name);
}

std::optional<StoredWeights::StoredHeads> StoredWeights::heads_at(const TensorPlace& place) const {
  const auto names = gguf_ ? gguf_heads(config_, place) : std::nullopt;
  if (!names || file_.find(placed(place).name)) return std::nullopt;
  const auto& latent = *config_.latent;
  const auto need_shape = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const auto* tensor = file_.find(name);
    if (!tensor)
      corrupt(file_.path.string(), name,
              "missing from the file; is the download complete and of this architecture?");
    if (tensor->shape != shape)
      corrupt(file_.path.string(), name,
              fmt::format("shape is [{}], the model's configuration asks for [{}]",
                          fmt::join(tensor->shape, ", "), fmt::join(shape, ", ")));
    return *tensor;
  };
  return StoredHeads{need_shape(names->keys, {config_.heads, latent.kv_rank, latent.nope_dim}),
                     need_shape(names->values, {config_.heads, latent.value_dim, latent.kv_rank})};
}

Weight StoredWeights::joined(const StoredHeads& heads, at::ScalarType type) const {
  const auto decoded = [&](const TensorView& tensor) {
    if (is_block_quantized(tensor.type) && !type_info(tensor.type).dequantize)
      corrupt(tensor.file->name(), tensor.name,
              fmt::format("type {} cannot be decoded", type_info(tensor.type).name));
    require_finite(tensor);
    auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
    dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(),
                    tensor.shape[0] * tensor.shape[1], tensor.shape[2]);
    return values.to(type);
  };
  const auto all = at::cat({decoded(heads.keys).transpose(1, 2), decoded(heads.values)}, 1);
  return dense_weight(all.reshape({-1, all.size(2)}).contiguous());
}

WeightType StoredWeights::held_type(const TensorPlace& place, const StoredMatrix& stored) const {
  if (!wanted_ || (is_block_quantized(*wanted_) && place.role == Role::head)) return stored.type;
  return fitting_type(*wanted_, stored.columns);
}

Tensor StoredWeights::bias_of(const TensorPlace& place) const {
  auto bias = place;
  bias.bias = true;
  return find(bias) ? vector(bias) : Tensor();
}

TensorView StoredWeights::matrix_view(const TensorPlace& place) const {
  auto tensor = need(place);
  if (tensor.shape.size() != 2)
    fail(place, fmt::format("expected a matrix, found {} dimensions", tensor.shape.size()));
  if (tensor.shape[0] == 0 || tensor.shape[1] == 0) fail(place, "is empty");
  return tensor;
}

GgufTensor StoredWeights::placed(const TensorPlace& place) const {
  return gguf_ ? gguf_tensor(config_, place) : GgufTensor{tensor_name(config_, place)};
}

const TensorView* StoredWeights::find(const TensorPlace& place) const {
  return file_.find(placed(place).name);
}

TensorView StoredWeights::need(const TensorPlace& place) const {
  const auto* tensor = find(place);
  const bool half = place.role == Role::gate || place.role == Role::up;
  if (!tensor && place.expert >= 0) {
    if (config_.four_bit && !gguf_) refuse_codes_in_stack(place);
    const auto* stack = file_.find(gguf_ ? gguf_gate_up(place) : stack_name(config_, place));
    if (stack && half) return half_of_gate_up(place, stack);
    if (stack && !gguf_) return expert_of(*stack, place.expert);
  }
  if (!tensor) fail(place, "missing from the file; is the download complete and of this architecture?");
  const auto expert = placed(place).expert;
  return expert < 0 ? *tensor : expert_of(*tensor, expert);
}

void StoredWeights::refuse_codes_in_stack(const TensorPlace& place) const {
  const auto stack = stack_name(config_, place);
  for (const auto& tensor : file_.tensors)
    if (tensor.name.starts_with(stack) && tensor.type == WeightType::u8)
      corrupt(tensor.file->name(), tensor.name,
              fmt::format("has all experts of a layer as 4-bit codes ({}), which are read where each expert "
                          "has a matrix of its own; take a folder in bf16 or F8_E4M3",
                          name_of(config_.four_bit->method)));
}

TensorView StoredWeights::expert_of(const TensorView& stack, int64_t expert) const {
  if (stack.shape.size() != 3 || stack.shape[0] != config_.experts)
    corrupt(file_.path.string(), stack.name,
            fmt::format("expected one matrix for each of {} experts, found shape [{}]", config_.experts,
                        fmt::join(stack.shape, ", ")));
  auto one = stack;
  one.shape.erase(one.shape.begin());
  const auto size = stack.data.size() / static_cast<size_t>(config_.experts);
  one.data = stack.data.subspan(size * static_cast<size_t>(expert), size);
  return one;
}

TensorView StoredWeights::half_of_gate_up(const TensorPlace& place, const TensorView* both) const {
  const std::vector<int64_t> shape{config_.experts, 2 * config_.expert_intermediate, config_.hidden};
  if (both->shape != shape)
    corrupt(file_.path.string(), both->name,
            fmt::format("shape is [{}], the model's configuration asks for [{}]",
                        fmt::join(both->shape, ", "), fmt::join(shape, ", ")));
  auto half = *both;
  half.shape = {config_.expert_intermediate, config_.hidden};
  const auto size = both->data.size() / static_cast<size_t>(2 * config_.experts);
  half.data =
      both->data.subspan(size * static_cast<size_t>(2 * place.expert + (place.role == Role::up)), size);
  return half;
}

[[noreturn]] void StoredWeights::fail(const TensorPlace& place, const std::string& problem) const {
  corrupt(file_.path.string(), placed(place).name, problem);
}

void StoredWeights::require_finite(const TensorView& tensor) const {
  const auto found = first_not_finite(tensor.type, tensor.data);
  if (!found) return;
  const auto columns = tensor.shape.empty() ? int64_t{1} : tensor.shape.back();
  corrupt(tensor.file->name(), tensor.name,
          fmt::format("holds a number that is not finite (row {}, column {}); is the file whole, and did "
                      "its training end well?",
                      *found / columns, *found % columns));
}

void StoredWeights::drop_pages(const Weight& weight, const TensorPlace& place) const {
  if (const auto heads = heads_at(place)) return give_back(*heads);
  const auto tensor = matrix_at(place).tensor;
  const auto* held = weight.dense.defined() ? static_cast<const std::byte*>(weight.dense.const_data_ptr())
                                            : weight.blocks.data();
  if (held != tensor.data.data()) tensor.file->release(tensor.data);
}

Tensor StoredWeights::order(int64_t heads, int64_t rows, const TensorPlace& place) const {
  if (rows % heads != 0 || rows / heads % 2 != 0)
    fail(place, fmt::format("{} rows do not divide into {} heads", rows, heads));
  auto index = at::empty({rows}, at::TensorOptions(at::kLong));
  auto* out = index.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i) out[i] = gguf_row_of(i, heads, rows);
  return index;
}

Weight StoredWeights::stored_matrix(const TensorPlace& place, bool first) const {
  if (const auto four_bit = four_bit_at(place)) return read_four_bit(*four_bit);
  if (const auto heads = heads_at(place)) {
    const auto type = matrix_at(place).type;
    return joined(*heads, type == WeightType::bf16  ? at::kBFloat16
                          : type == WeightType::f16 ? at::kHalf
                                                    : at::kFloat);
  }
  const auto tensor = matrix_view(place);
  const auto rows = tensor.shape[0], columns = tensor.shape[1];
  tensor.file->fetch(tensor.data);
  if (first) require_finite(tensor);
  const auto heads = placed(place).permuted_heads;
  auto weight = view(tensor, rows, columns, place);
  if (heads == 0) return weight;
  const auto index = order(heads, rows, place);
  if (weight.dense.defined()) return dense_weight(weight.dense.index_select(0, index));
  const auto stride = weight.blocks.size() / static_cast<size_t>(rows);
  auto buffer = std::make_shared<std::vector<std::byte>>(weight.blocks.size());
  const auto* from = index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i)
    std::copy_n(weight.blocks.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(from[i]) * stride),
                stride, buffer->begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * stride));
  const std::span<const std::byte> blocks(*buffer);
  return block_weight(weight.type, rows, columns, blocks, buffer);
}

Weight StoredWeights::scaled(const TensorView& codes, const TensorPlace& place) const {
  const auto* scales = find_f8_scales(file_, codes);
  if (!scales || codes.name == placed(place).name) return read_scaled_f8(file_, *config_.fp8, codes);
  const bool half = place.role != Role::down;  // of gate and up
  return read_scaled_f8(
      *config_.fp8, codes,
      scales_in_stack(*config_.fp8, codes, *scales,
                      {place.expert, config_.experts, int64_t{place.role == Role::up}, half ? 2 : 1}));
}

Weight StoredWeights::view(const TensorView& tensor, int64_t rows, int64_t columns,
                           const TensorPlace& place) const {
  if (is_block_quantized(tensor.type)) {
    if (!type_info(tensor.type).dequantize)
      fail(place, fmt::format("type {} cannot be decoded", type_info(tensor.type).name));
    return block_weight(tensor.type, rows, columns, tensor.data, tensor.file);
  }
  if (tensor.type == WeightType::f8_e4m3 && config_.fp8) return scaled(tensor, place);
  const auto scalar = tensor.type == WeightType::f32    ? at::kFloat
                      : tensor.type == WeightType::bf16 ? at::kBFloat16
                                                        : at::kHalf;
  if (scalar == at::kHalf && tensor.type != WeightType::f16)
    fail(place, fmt::format("type {} is not read as a weight; expected F32, F16, BF16 or a block type",
                            type_info(tensor.type).name));
  // The mapping is read-only and nothing writes into a frozen weight; whoever trains it takes a copy first.
  auto* data = const_cast<std::byte*>(tensor.data.data());
  auto dense = at::from_blob(
      data, {rows, columns}, [file = tensor.file](void*) {}, at::TensorOptions(scalar));
  const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(scalar) == 0;
  if (aligned) return dense_weight(dense);
  auto copy = at::empty({rows, columns}, at::TensorOptions(scalar));
  std::memcpy(copy.mutable_data_ptr(), data, tensor.data.size());
  return dense_weight(copy);
}

}  // namespace retort
