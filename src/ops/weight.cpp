#include "ops/weight.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "ops/new_tensors.h"
#include "ops/team.h"

namespace retort {
namespace {

std::optional<at::ScalarType> dense_scalar(WeightType type) {
  switch (type) {
    case WeightType::f32: return at::kFloat;
    case WeightType::bf16: return at::kBFloat16;
    case WeightType::f16: return at::kHalf;
    default: return std::nullopt;
  }
}

void require_present(const Weight& weight) {
  if (!weight.present()) throw std::logic_error("a weight is used that nobody has read from its file");
}

int64_t stride_of(const Weight& weight) {
  return static_cast<int64_t>(row_bytes(weight.type, static_cast<uint64_t>(weight.columns)).value());
}

}  // namespace

uint64_t Weight::stored_bytes() const {
  if (dense.defined()) return dense.nbytes();
  uint64_t bytes = blocks.size() + (scales.defined() ? scales.nbytes() : 0);
  if (code_scales)
    for (const auto* tensor : {&code_scales->scales, &code_scales->zeros, &code_scales->group_of})
      if (tensor->defined()) bytes += tensor->nbytes();
  return bytes;
}

CodeGroups Weight::groups() const {
  if (!code_scales) return {};
  const auto& [scale, zeros, group_of, groups, group_columns, book, high_first] = *code_scales;
  return {scale.const_data_ptr<float>(),
          zeros.defined() ? zeros.const_data_ptr<uint8_t>() : nullptr,
          group_of.defined() ? group_of.const_data_ptr<int32_t>() : nullptr,
          groups,
          group_columns,
          book.data(),
          high_first};
}

ScaleGrid Weight::grid() const {
  if (!scales.defined()) return {};
  return {scales.const_data_ptr<float>(), scales.size(1), scale_rows, scale_columns};
}

GemmMatrix Weight::operand(bool transposed) const {
  require_present(*this);
  if (!dense.defined())
    return {type, blocks.data(), rows, columns, stride_of(*this), transposed, 1, grid(), groups()};
  if (dense.stride(1) != 1 && columns > 1) throw std::logic_error("a weight's rows are dense");
  return {type,    static_cast<const std::byte*>(dense.const_data_ptr()),        rows,
          columns, dense.stride(0) * static_cast<int64_t>(dense.element_size()), transposed,
          1};
}

Weight dense_weight(at::Tensor matrix) {
  if (matrix.dim() != 2) throw std::logic_error("a weight is a matrix");
  Weight weight;
  weight.rows = matrix.size(0);
  weight.columns = matrix.size(1);
  if (matrix.scalar_type() == at::kFloat) weight.type = WeightType::f32;
  else if (matrix.scalar_type() == at::kBFloat16) weight.type = WeightType::bf16;
  else if (matrix.scalar_type() == at::kHalf) weight.type = WeightType::f16;
  else throw std::logic_error("a dense weight is f32, bf16 or f16");
  weight.dense = std::move(matrix);
  weight.copies = std::make_shared<DeviceCopies>();
  return weight;
}

Weight block_weight(WeightType type, int64_t rows, int64_t columns, std::span<const std::byte> blocks,
                    std::shared_ptr<const void> owner) {
  const auto stride = row_bytes(type, static_cast<uint64_t>(columns));
  uint64_t needed = 0;
  if (!stride || __builtin_mul_overflow(*stride, static_cast<uint64_t>(rows), &needed) ||
      needed != blocks.size())
    throw std::logic_error("block_weight: the bytes do not hold the matrix");
  Weight weight;
  weight.type = type;
  weight.rows = rows;
  weight.columns = columns;
  weight.blocks = blocks;
  weight.owner = std::move(owner);
  weight.copies = std::make_shared<DeviceCopies>();
  return weight;
}

Weight absent_weight(WeightType type, int64_t rows, int64_t columns) {
  Weight weight;
  weight.type = type;
  weight.rows = rows;
  weight.columns = columns;
  return weight;
}

Weight scaled_f8_weight(int64_t rows, int64_t columns, std::span<const std::byte> codes,
                        std::shared_ptr<const void> owner, at::Tensor scales, int64_t scale_rows,
                        int64_t scale_columns) {
  const auto parts = [](int64_t count, int64_t block) { return (count + block - 1) / block; };
  if (scale_rows < 1 || scale_columns < 1 || scales.dim() != 2 || scales.scalar_type() != at::kFloat ||
      !scales.is_contiguous() || scales.size(0) != parts(rows, scale_rows) ||
      scales.size(1) != parts(columns, scale_columns))
    throw std::logic_error("scaled_f8_weight: the scales are no grid of the matrix");
  auto weight = block_weight(WeightType::f8_e4m3, rows, columns, codes, std::move(owner));
  weight.scales = std::move(scales);
  weight.scale_rows = scale_rows, weight.scale_columns = scale_columns;
  return weight;
}

Weight packed4_weight(int64_t rows, int64_t columns, std::span<const std::byte> codes,
                      std::shared_ptr<const void> owner, CodeScales scales) {
  const auto parts = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  const auto [groups, group_columns] = std::pair(scales.groups, scales.group_columns);
  const auto number = groups > 0          ? rows * groups
                      : group_columns > 0 ? parts(rows * columns, group_columns)
                                          : 0;
  const auto fits = [](const at::Tensor& tensor, at::ScalarType type, int64_t count) {
    return tensor.scalar_type() == type && tensor.is_contiguous() && tensor.numel() == count;
  };
  if (group_columns < 2 || group_columns % 2 != 0 || !fits(scales.scales, at::kFloat, number) ||
      (groups > 0 && !scales.group_of.defined() && parts(columns, group_columns) != groups) ||
      (scales.zeros.defined() && !fits(scales.zeros, at::kByte, number)) ||
      (scales.group_of.defined() && (groups < 1 || !fits(scales.group_of, at::kInt, columns))))
    throw std::logic_error("packed4_weight: the scales are not those of the matrix");
  auto weight = block_weight(WeightType::packed4, rows, columns, codes, std::move(owner));
  weight.code_scales = std::make_shared<const CodeScales>(std::move(scales));
  return weight;
}

void widen_rows_into(const Weight& weight, int64_t first, int64_t count, at::Tensor& out) {
  require_present(weight);
  if (weight.dense.defined()) {
    out.copy_(weight.dense.detach().narrow(0, first, count));
    return;
  }
  const auto stride = stride_of(weight);
  const auto columns = weight.columns;
  const std::byte* in = weight.blocks.data() + first * stride;
  const bool to_bf16 = out.scalar_type() == at::kBFloat16;
  if (!to_bf16 && out.scalar_type() != at::kFloat)
    throw std::logic_error("weights are widened to f32 or bf16");
  auto* data = static_cast<std::byte*>(out.mutable_data_ptr());
  const auto grid = weight.grid();
  const auto groups = weight.groups();
  over_range(count, std::max<int64_t>(1, 65536 / columns), [&](int64_t begin, int64_t end) {
    if (groups.scales && to_bf16)
      decode_packed4_bf16(weight.blocks.data(), columns, groups, first + begin, end - begin, 0, columns,
                          reinterpret_cast<uint16_t*>(data) + begin * columns);
    else if (groups.scales)
      decode_packed4(weight.blocks.data(), columns, groups, first + begin, end - begin, 0, columns,
                     reinterpret_cast<float*>(data) + begin * columns);
    else if (grid.scales && to_bf16)
      decode_scaled_f8_bf16(weight.blocks.data(), stride, grid, first + begin, end - begin, 0, columns,
                            reinterpret_cast<uint16_t*>(data) + begin * columns);
    else if (grid.scales)
      decode_scaled_f8(weight.blocks.data(), stride, grid, first + begin, end - begin, 0, columns,
                       reinterpret_cast<float*>(data) + begin * columns);
    else if (to_bf16)
      dequantize_rows_bf16(weight.type, in + begin * stride,
                           reinterpret_cast<uint16_t*>(data) + begin * columns, end - begin, columns);
    else
      dequantize_rows(weight.type, in + begin * stride, reinterpret_cast<float*>(data) + begin * columns,
                      end - begin, columns);
  });
}

at::Tensor widen_rows(const Weight& weight, int64_t first, int64_t count, at::ScalarType type) {
  if (weight.dense.defined() && weight.dense.scalar_type() == type)
    return weight.dense.detach().narrow(0, first, count);
  auto out = at::empty({count, weight.columns}, at::TensorOptions(type));
  widen_rows_into(weight, first, count, out);
  return out;
}

at::Tensor widen(const Weight& weight, at::ScalarType type) {
  return widen_rows(weight, 0, weight.rows, type);
}

at::Tensor widen_for_use(const Weight& weight, int64_t first, int64_t count, at::ScalarType type) {
  if (weight.dense.defined() && weight.dense.scalar_type() == type)
    return weight.dense.detach().narrow(0, first, count);
  // A buffer a thread and type: the next use overwrites it, so that no widened copy outlives its product.
  thread_local std::map<at::ScalarType, at::Tensor> buffers;
  auto& buffer = buffers[type];
  const int64_t needed = count * weight.columns;
  if (!buffer.defined() || buffer.numel() < needed) {
    buffer = at::Tensor();
    const NewTensors in_memory;  // it outlives whatever is at work
    buffer = at::empty({needed}, at::TensorOptions(type));
  }
  auto out = buffer.narrow(0, 0, needed).view({count, weight.columns});
  widen_rows_into(weight, first, count, out);
  return out;
}

Weight convert_weight(const Weight& weight, WeightType type) {
  if (weight.type == type) return weight;
  const at::NoGradGuard no_graph;
  if (const auto scalar = dense_scalar(type)) {
    if (*scalar == at::kHalf) return dense_weight(widen(weight, at::kFloat).to(at::kHalf));
    return dense_weight(widen(weight, *scalar));
  }
  const auto stride = row_bytes(type, static_cast<uint64_t>(weight.columns));
  if (!stride || !can_quantize(type))
    throw Failure(fmt::format("a matrix [{}, {}] cannot be held as {}", weight.rows, weight.columns,
                              type_info(type).name));
  auto buffer = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(weight.rows) * *stride);
  const int64_t some = std::max<int64_t>(1, 262144 / weight.columns);
  at::parallel_for(0, (weight.rows + some - 1) / some, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_graph_here;
    for (int64_t part = begin; part < end; ++part) {
      const auto first = part * some, count = std::min(some, weight.rows - first);
      const auto rows = widen_rows(weight, first, count, at::kFloat).contiguous();
      const float* values = rows.const_data_ptr<float>();
      if (!std::all_of(values, values + rows.numel(), [](float x) { return std::isfinite(x); }))
        throw FormatError(
            fmt::format("a matrix [{}, {}] holds a NaN or an infinity and cannot be quantized to {}",
                        weight.rows, weight.columns, type_info(type).name));
      quantize_rows(type, values, buffer->data() + static_cast<size_t>(first) * *stride, count,
                    weight.columns);
    }
  });
  const std::span<const std::byte> blocks(*buffer);
  return block_weight(type, weight.rows, weight.columns, blocks, buffer);
}

}  // namespace retort
