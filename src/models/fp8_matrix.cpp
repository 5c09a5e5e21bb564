#include "models/fp8_matrix.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "quant/finite.h"

namespace retort {

const TensorView* find_f8_scales(const WeightFile& file, const TensorView& codes) {
  for (const char* suffix : {"_scale_inv", "_scale"})
    if (const auto* scales = file.find(codes.name + suffix)) return scales;
  return nullptr;
}

Weight read_scaled_f8(const WeightFile& file, const Fp8Config& config, const TensorView& codes) {
  const auto* scales = find_f8_scales(file, codes);
  if (!scales)
    corrupt(
        file.path.string(), codes.name,
        "is F8_E4M3, and no tensor " + codes.name + "_scale_inv has its scales; is the download complete?");
  return read_scaled_f8(config, codes, *scales);
}

TensorView scales_in_stack(const Fp8Config& config, const TensorView& codes, const TensorView& scales,
                           const PlaceInStack& place) {
  auto one = scales;
  if (scales.elements() == 1) {
    one.shape = {1};
    return one;
  }
  const auto cut = [&](int64_t index, int64_t count) {
    const auto size = one.data.size() / static_cast<size_t>(count);
    one.data = one.data.subspan(size * static_cast<size_t>(index), size);
  };
  if (scales.shape.empty() || scales.shape[0] != place.experts || type_info(scales.type).block_elements != 1)
    corrupt(scales.file->name(), scales.name,
            fmt::format("expected scales for each of {} experts, or one for all, found shape [{}]",
                        place.experts, fmt::join(scales.shape, ", ")));
  cut(place.expert, place.experts);
  one.shape.erase(one.shape.begin());
  if (one.elements() == 1) one.shape = {1};
  if (one.elements() == 1 || place.parts == 1) return one;
  if (one.shape[0] % place.parts != 0 || (config.block_rows > 0 && codes.shape[0] % config.block_rows != 0))
    corrupt(scales.file->name(), scales.name,
            fmt::format("has shape [{}]: of {} rows of each part, some share a block with another part's, "
                        "which is not read",
                        fmt::join(scales.shape, ", "), codes.shape[0]));
  cut(place.part, place.parts);
  one.shape[0] /= place.parts;
  return one;
}

Weight read_scaled_f8(const Fp8Config& config, const TensorView& codes, const TensorView& scales) {
  const auto rows = codes.shape[0], columns = codes.shape[1];
  const auto* scale = &scales;
  if (type_info(scale->type).block_elements != 1 || scale->elements() == 0)
    corrupt(scale->file->name(), scale->name, "expected scales of a dense type");
  if (const auto found = first_not_finite(scale->type, scale->data))
    corrupt(scale->file->name(), scale->name,
            fmt::format("scale {} is not finite; is the file whole?", *found));
  auto [block_rows, block_columns, power_of_two] = config;
  if (block_rows == 0) block_rows = scale->elements() == 1 ? rows : 1, block_columns = columns;
  const auto parts = [](int64_t count, int64_t block) { return (count + block - 1) / block; };
  const auto grid_rows = parts(rows, block_rows), grid_columns = parts(columns, block_columns);
  const auto& shape = scale->shape;
  const bool grid = shape == std::vector{grid_rows, grid_columns};
  const bool line = grid_columns == 1 && scale->elements() == grid_rows;
  if (!grid && !line)
    corrupt(scale->file->name(), scale->name,
            fmt::format("has shape [{}]; a matrix [{}, {}] in blocks of [{}, {}] has [{}, {}] scales",
                        fmt::join(shape, ", "), rows, columns, block_rows, block_columns, grid_rows,
                        grid_columns));
  auto values = at::empty({grid_rows, grid_columns}, at::TensorOptions(at::kFloat));
  dequantize_rows(scale->type, scale->data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
  return scaled_f8_weight(rows, columns, codes.data, codes.file, values, block_rows, block_columns);
}

}  // namespace retort
