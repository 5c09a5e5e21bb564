#include "export/kept_tensor.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "quant/encode_f8.h"

namespace retort {
namespace {

// Some rows as they are stored: numbers, or codes and the scales of their blocks.
struct Encoded {
  Bytes bytes;
  std::vector<float> scales;
  RoundedUpdate update;
};

Tensor stored_rows(const KeptTensor& kept, int64_t first, int64_t count) {
  if (kept.scaled()) return widen_rows(kept.base, first, count, at::kFloat);
  const auto columns = kept.tensor.row_length();
  const auto bytes = *row_bytes(kept.view->type, static_cast<uint64_t>(columns));
  auto rows = at::empty({count, columns}, at::TensorOptions(at::kFloat));
  dequantize_rows(kept.view->type, kept.view->data.data() + static_cast<uint64_t>(first) * bytes,
                  rows.mutable_data_ptr<float>(), count, columns);
  return rows;
}

// Some rows of blocks. A block whose numbers the training left alone keeps its scale and its codes; where all
// of the matrix is one, whether it did is known before.
void encode_blocks(const KeptTensor& kept, int64_t first, const Tensor& merged, const Tensor& before,
                   Encoded& encoded, Tensor& read_back) {
  const auto rows = merged.size(0), columns = merged.size(1);
  const auto* values = merged.const_data_ptr<float>();
  const auto* old = before.const_data_ptr<float>();
  const auto* stored = reinterpret_cast<const uint8_t*>(kept.view->data.data()) + first * columns;
  auto* codes = reinterpret_cast<uint8_t*>(encoded.bytes.data());
  auto* back = read_back.mutable_data_ptr<float>();
  const auto grid = kept.base.grid();
  const auto each_row = [&](int64_t row, int64_t column, auto&& visit) {  // of a block, cut off at the edges
    const auto some = std::min(grid.block_columns, columns - column);
    for (int64_t r = row; r < std::min(rows, row + grid.block_rows); ++r) visit(r * columns + column, some);
  };
  for (int64_t row = 0; row < rows; row += grid.block_rows)
    for (int64_t column = 0; column < columns; column += grid.block_columns) {
      float largest = 0;
      bool same = true;
      each_row(row, column, [&](int64_t at, int64_t some) {
        for (int64_t i = at; i < at + some; ++i) {
          largest = std::max(largest, std::abs(values[i]));
          same = same && values[i] == old[i];
        }
      });
      same = same && !kept.new_scale;
      const auto place = (first + row) / grid.block_rows * grid.columns + column / grid.block_columns;
      const auto scale = same             ? grid.scales[place]
                         : kept.new_scale ? *kept.new_scale
                                          : f8_block_scale(largest, kept.scales->type, kept.power_of_two);
      encoded.scales.push_back(scale);
      each_row(row, column, [&](int64_t at, int64_t some) {
        if (same) std::memcpy(codes + at, stored + at, static_cast<size_t>(some));
        else encode_scaled_f8(values + at, scale, some, codes + at);
        f8_rectangle(codes + at, columns, scale, back + at, columns, 1, some);
      });
    }
}

Tensor finite_rows(const KeptTensor& kept, int64_t first, int64_t count) {
  auto merged = kept.tensor.rows(first, count).contiguous();
  if (kept.scaled() && !at::isfinite(merged).all().item<bool>())
    throw RecipeError(
        fmt::format("{}: {} holds a number that is not finite; look at the loss of the training", kKeepKey,
                    printable(kept.tensor.name)));
  return merged;
}

Encoded encode(const KeptTensor& kept, int64_t first, int64_t count) {
  const auto merged = finite_rows(kept, first, count), before = stored_rows(kept, first, count);
  Encoded encoded;
  encoded.update.any = !at::equal(merged, before);
  auto read_back = at::empty_like(merged);
  if (kept.scaled()) {
    encoded.bytes.resize(static_cast<size_t>(merged.numel()));
    encode_blocks(kept, first, merged, before, encoded, read_back);
  } else {
    encoded.bytes = encode_rows(kept.tensor.name, kept.view->type, merged);
    dequantize_rows(kept.view->type, encoded.bytes.data(), read_back.mutable_data_ptr<float>(), count,
                    merged.size(1));
  }
  if (!encoded.update.any && !kept.new_scale) return encoded;
  const auto wide = [](const Tensor& tensor) { return tensor.to(at::kDouble); };
  const auto update = wide(merged).sub_(before);
  encoded.update.size = update.square().sum().item<double>();
  encoded.update.lost = wide(read_back).sub_(merged).square().sum().item<double>();
  encoded.update.left = wide(read_back).sub_(before).mul_(update).sum().item<double>();
  return encoded;
}

// What `see` says of each chunk of rows, in their order.
template <class Part, class See>
std::vector<Part> each_chunk(const KeptTensor& kept, int64_t threads, const See& see) {
  std::vector<Part> parts(static_cast<size_t>(kept.chunks()));
  encode_in_order(
      kept.tensor.row_count(), kept.chunk(), threads,
      [&](int64_t first, int64_t count) {
        parts[static_cast<size_t>(first / kept.chunk())] = see(first, count);
        return Bytes();
      },
      [](std::span<const std::byte>) {});
  return parts;
}

// The scale of a matrix that is one block, which may be larger than what is in memory at a time; nullopt: no
// number of it was changed.
std::optional<float> scale_of_all(const KeptTensor& kept, int64_t threads) {
  struct Part {
    bool same = true;
    float largest = 0;
  };
  const auto parts = each_chunk<Part>(kept, threads, [&](int64_t first, int64_t count) -> Part {
    const auto merged = finite_rows(kept, first, count);
    return {at::equal(merged, stored_rows(kept, first, count)), merged.abs().max().item<float>()};
  });
  if (std::ranges::all_of(parts, &Part::same)) return std::nullopt;
  const auto largest = std::ranges::max(parts, {}, &Part::largest).largest;
  return f8_block_scale(largest, kept.scales->type, kept.power_of_two);
}

}  // namespace

RoundedTensor round_tensor(KeptTensor& kept, int64_t threads) {
  RoundedTensor rounded;
  if (kept.one_block()) {
    kept.new_scale = scale_of_all(kept, threads);
    if (!kept.new_scale) return rounded;
  }
  const auto parts = each_chunk<Encoded>(kept, threads, [&](int64_t first, int64_t count) {
    auto part = encode(kept, first, count);
    part.bytes.clear(), part.bytes.shrink_to_fit();
    return part;
  });
  for (const auto& part : parts) {
    rounded.update += part.update;
    rounded.scales.insert(rounded.scales.end(), part.scales.begin(), part.scales.end());
  }
  if (kept.new_scale) rounded.scales = {*kept.new_scale};  // every chunk said the same
  return rounded;
}

Bytes stored_scales(const std::vector<float>& scales, WeightType type) {
  Bytes bytes(scales.size() * static_cast<size_t>(type_info(type).block_bytes));
  if (type != WeightType::f8_e8m0) {
    quantize_rows(type, scales.data(), bytes.data(), 1, static_cast<int64_t>(scales.size()));
    return bytes;
  }
  for (size_t i = 0; i < scales.size(); ++i)
    bytes[i] = static_cast<std::byte>(std::clamp(std::ilogb(scales[i]) + 127, 0, 254));
  return bytes;
}

Bytes encoded_rows(const KeptTensor& kept, int64_t first, int64_t count) {
  return encode(kept, first, count).bytes;
}

}  // namespace retort
