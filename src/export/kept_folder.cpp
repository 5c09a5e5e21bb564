// A merged model in the base's own files. Types and shapes stay what they are, and so every byte of a shard
// stays where it is: a shard is copied, and what the training changed is written in its place.
#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "export/merged.h"
#include "formats/parse.h"
#include "formats/weight_file.h"
#include "models/fp8_matrix.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "quant/encode_f8.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kKey = "export.merged: keep";

// What rounding did to the update of a matrix, or of some of its rows.
struct Update {
  bool any = false;
  double lost = 0, size = 0, left = 0;  // |Q(W') - W'|^2, |W' - W|^2, <Q(W') - W, W' - W>
  void operator+=(const Update& other) {
    any = any || other.any;
    lost += other.lost, size += other.size, left += other.left;
  }
  double error() const { return size > 0 ? std::sqrt(lost / size) : 0; }
  double share_left() const { return size > 0 ? left / size : 1; }
};

// Some rows as they are stored: numbers, or codes and the scales of their blocks.
struct Encoded {
  Bytes bytes;
  std::vector<float> scales;
  Update update;
};

// A tensor of the trained model and where the base has it.
struct Kept {
  MergedTensor tensor;
  const TensorView* view;
  Weight base;                         // a matrix of F8_E4M3 with its scales; or
  const TensorView* scales = nullptr;  // nothing
  bool power_of_two = false;

  bool scaled() const { return scales != nullptr; }
  int64_t chunk() const {  // whole rows of blocks
    const auto rows = rows_per_chunk(tensor.row_length());
    return scaled() ? std::max<int64_t>(1, rows / base.scale_rows) * base.scale_rows : rows;
  }
  int64_t chunks() const { return (tensor.row_count() + chunk() - 1) / chunk(); }
};

Tensor stored_rows(const Kept& kept, int64_t first, int64_t count) {
  if (kept.scaled()) return widen_rows(kept.base, first, count, at::kFloat);
  const auto columns = kept.tensor.row_length();
  const auto bytes = *row_bytes(kept.view->type, static_cast<uint64_t>(columns));
  auto rows = at::empty({count, columns}, at::TensorOptions(at::kFloat));
  dequantize_rows(kept.view->type, kept.view->data.data() + static_cast<uint64_t>(first) * bytes,
                  rows.mutable_data_ptr<float>(), count, columns);
  return rows;
}

// Some rows of blocks. A block whose numbers the training left alone keeps its scale and its codes.
void encode_blocks(const Kept& kept, int64_t first, const Tensor& merged, const Tensor& before,
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
      const auto place = (first + row) / grid.block_rows * grid.columns + column / grid.block_columns;
      const auto scale =
          same ? grid.scales[place] : f8_block_scale(largest, kept.scales->type, kept.power_of_two);
      encoded.scales.push_back(scale);
      each_row(row, column, [&](int64_t at, int64_t some) {
        if (same) std::memcpy(codes + at, stored + at, static_cast<size_t>(some));
        else encode_scaled_f8(values + at, scale, some, codes + at);
        f8_rectangle(codes + at, columns, scale, back + at, columns, 1, some);
      });
    }
}

Encoded encode(const Kept& kept, int64_t first, int64_t count) {
  const auto merged = kept.tensor.rows(first, count).contiguous(), before = stored_rows(kept, first, count);
  Encoded encoded;
  encoded.update.any = !at::equal(merged, before);
  auto read_back = at::empty_like(merged);
  if (kept.scaled()) {
    encoded.bytes.resize(static_cast<size_t>(merged.numel()));
    if (!at::isfinite(merged).all().item<bool>())
      throw RecipeError(
          fmt::format("{}: {} holds a number that is not finite; look at the loss of the training", kKey,
                      printable(kept.tensor.name)));
    encode_blocks(kept, first, merged, before, encoded, read_back);
  } else {
    encoded.bytes = encode_rows(kept.tensor.name, kept.view->type, merged);
    dequantize_rows(kept.view->type, encoded.bytes.data(), read_back.mutable_data_ptr<float>(), count,
                    merged.size(1));
  }
  if (!encoded.update.any) return encoded;
  const auto wide = [](const Tensor& tensor) { return tensor.to(at::kDouble); };
  const auto update = wide(merged).sub_(before);
  encoded.update.size = update.square().sum().item<double>();
  encoded.update.lost = wide(read_back).sub_(merged).square().sum().item<double>();
  encoded.update.left = wide(read_back).sub_(before).mul_(update).sum().item<double>();
  return encoded;
}

// What a look at all of it gives: whether it was changed at all, and its new scales.
struct Looked {
  Update update;
  std::vector<float> scales;
};
Looked look(const Kept& kept, int64_t threads) {
  std::vector<Encoded> parts(static_cast<size_t>(kept.chunks()));
  encode_in_order(
      kept.tensor.row_count(), kept.chunk(), threads,
      [&](int64_t first, int64_t count) {
        auto part = encode(kept, first, count);
        part.bytes.clear(), part.bytes.shrink_to_fit();
        parts[static_cast<size_t>(first / kept.chunk())] = std::move(part);
        return Bytes();
      },
      [](std::span<const std::byte>) {});
  Looked looked;
  for (const auto& part : parts) {
    looked.update += part.update;
    looked.scales.insert(looked.scales.end(), part.scales.begin(), part.scales.end());
  }
  return looked;
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

class Base {
 public:
  explicit Base(const LoadedModel& loaded) : path(loaded.path) {
    if (!fs::is_directory(path))
      throw RecipeError(
          fmt::format("{}: {} is no safetensors folder, whose types could be kept; set bf16, or let "
                      "export.gguf name a type",
                      kKey, printable(path.string())));
    const auto& config = loaded.model->config;
    if (config.four_bit)
      throw RecipeError(
          fmt::format("{}: matrices of 4-bit codes ({}) are read, not written; set bf16, or let "
                      "export.gguf name a type",
                      kKey, name_of(config.four_bit->method)));
    file_ = open_safetensors_folder(path);
    for (const auto& tensor : file_.tensors)
      if (std::find(shards.begin(), shards.end(), tensor.file) == shards.end()) shards.push_back(tensor.file);
    std::sort(shards.begin(), shards.end(),
              [](const auto& a, const auto& b) { return a->name() < b->name(); });
    if (loaded.multimodal) keep_text_part(file_);
  }

  // Every tensor of the trained model where the base has it.
  std::vector<Kept> tensors(const Model& model) const {
    std::vector<Kept> all;
    for (auto& tensor : merged_tensors(model)) {
      const auto* view = file_.find(tensor.name);
      const bool copy = tensor.place.role == Role::embedding || tensor.place.role == Role::head;
      if (!view && copy && is_behind_the_last(model.config, tensor.place)) continue;  // not every base has it
      if (!view && tensor.place.expert >= 0) view = part_of_stack(model.config, tensor.place);
      if (!view)
        throw RecipeError(
            fmt::format("{}: the base has no {}, which the trained model has (an embedding and a "
                        "head that were one matrix?); set bf16",
                        kKey, printable(tensor.name)));
      if (view->shape != tensor.shape)
        throw RecipeError(fmt::format(
            "{}: {} is {} in the base and {} in the trained model (tokens that were "
            "added?); set bf16",
            kKey, printable(tensor.name), describe_shape(view->shape), describe_shape(tensor.shape)));
      if (view->type == WeightType::f8_e4m3 && view->name != tensor.name)
        throw RecipeError(
            fmt::format("{}: experts in one tensor of F8_E4M3 are read, not written in their place: {}; "
                        "set bf16",
                        kKey, printable(view->name)));
      Kept kept{std::move(tensor), view, {}};
      if (view->type == WeightType::f8_e4m3 && model.config.fp8) {
        kept.base = read_scaled_f8(file_, *model.config.fp8, *view);
        kept.scales = find_f8_scales(file_, *view);
        kept.power_of_two = model.config.fp8->power_of_two;
        if (kept.scales->type != WeightType::f8_e8m0 && !can_quantize(kept.scales->type))
          throw RecipeError(fmt::format("{}: scales of {} are not written; set bf16", kKey,
                                        type_info(kept.scales->type).name));
      } else if (!can_quantize(view->type) || type_info(view->type).block_elements != 1) {
        throw RecipeError(fmt::format("{}: {} is {}, which is not written; set bf16", kKey,
                                      printable(kept.tensor.name), type_info(view->type).name));
      }
      all.push_back(std::move(kept));
    }
    return all;
  }

  // One expert's matrix of the tensor that has those of a layer, as it is read (models/load.cpp); nullptr:
  // there is no such tensor, or it has other experts.
  const TensorView* part_of_stack(const ModelConfig& config, const TensorPlace& place) const {
    const auto* stack = file_.find(stack_name(config, place));
    const bool half = place.role != Role::down;  // of gate and up
    const std::vector<int64_t> shape{half ? config.expert_intermediate : config.hidden,
                                     half ? config.hidden : config.expert_intermediate};
    const auto expected = std::vector<int64_t>{config.experts, (half ? 2 : 1) * shape[0], shape[1]};
    if (!stack || stack->shape != expected) return nullptr;
    auto& part = parts_.emplace_back(*stack);
    part.shape = shape;
    const auto size = stack->data.size() / static_cast<size_t>((half ? 2 : 1) * config.experts);
    const auto index = half ? 2 * place.expert + (place.role == Role::up) : place.expert;
    part.data = stack->data.subspan(size * static_cast<size_t>(index), size);
    return &part;
  }

  const fs::path path;
  // All files of weights, those of a multimodal model's other parts among them.
  std::vector<std::shared_ptr<const MappedFile>> shards;

 private:
  WeightFile file_;
  mutable std::deque<TensorView> parts_;  // of tensors, which stay where they are
};

// Bytes of a shard that are written anew; the place is in the mapped shard of the base.
struct Patch {
  std::span<const std::byte> place;
  std::function<void(AtomicFile&)> write;
};

void write_shard(const fs::path& target, const MappedFile& base, std::vector<Patch> patches) {
  std::sort(patches.begin(), patches.end(),
            [](const Patch& a, const Patch& b) { return a.place.data() < b.place.data(); });
  AtomicFile out(target);
  const auto bytes = base.bytes();
  size_t at = 0;
  const auto copy_to = [&](size_t end) {
    constexpr size_t kAtOnce = 16 << 20;
    while (at < end) {
      const auto part = bytes.subspan(at, std::min(kAtOnce, end - at));
      out.write(part);
      base.release(part);
      at += part.size();
    }
  };
  for (const auto& patch : patches) {
    copy_to(static_cast<size_t>(patch.place.data() - bytes.data()));
    patch.write(out);
    at += patch.place.size();
    if (out.size() != at) throw std::logic_error("a tensor was written in another size than its place has");
  }
  copy_to(bytes.size());
  out.commit();
}

// The header and a hole.
void write_empty_shard(const fs::path& target, const MappedFile& base) {
  const auto bytes = base.bytes();
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  AtomicFile out(target);
  out.write(bytes.first(sizeof header + header));
  out.skip(bytes.size() - sizeof header - header);
  out.commit();
}

}  // namespace

Artefact write_kept_folder(const fs::path& target, LoadedModel& loaded, const Writing& writing) {
  const auto threads = writing.threads;
  const auto weights = writing.weights;
  const Base base(loaded);
  const auto tensors = base.tensors(*loaded.model);
  Artefact artefact{
      "safetensors", loaded.model->config.fp8 ? "F8_E4M3" : "the base's types", target, 0, {}, 0};
  std::vector<Looked> looked(tensors.size());
  std::map<const MappedFile*, std::vector<Patch>> patches;
  for (size_t i = 0; i < tensors.size() && weights == Weights::written; ++i) {
    const auto& kept = tensors[i];
    looked[i] = look(kept, threads);
    const auto& update = looked[i].update;
    const auto* scales = &looked[i].scales;
    if (!update.any) continue;
    artefact.delta_error = std::max(artefact.delta_error, update.error());
    if (update.share_left() < 0.5)
      artefact.vanished.push_back(
          fmt::format("{} ({:.0f} % of its update is left)", kept.tensor.name, 100 * update.share_left()));
    patches[kept.view->file.get()].push_back(
        {kept.view->data, [&kept, threads](AtomicFile& out) {
           encode_in_order(
               kept.tensor.row_count(), kept.chunk(), threads,
               [&](int64_t first, int64_t count) { return encode(kept, first, count).bytes; },
               [&](std::span<const std::byte> part) { out.write(part); });
         }});
    if (kept.scaled())
      patches[kept.scales->file.get()].push_back({kept.scales->data, [&kept, scales](AtomicFile& out) {
                                                    out.write(stored_scales(*scales, kept.scales->type));
                                                  }});
  }
  AtomicFolder staged(target);
  const auto& folder = staged.path();
  uint64_t all = 0;
  for (const auto& shard : base.shards) all += shard->bytes().size();
  if (weights == Weights::written) require_space(folder.parent_path(), all);
  for (const auto& shard : base.shards) {
    const auto file = folder / fs::path(shard->name()).filename();
    if (weights == Weights::left_out) write_empty_shard(file, *shard);
    else write_shard(file, *shard, std::move(patches[shard.get()]));
    shard->require_unchanged();
  }
  write_folder_settings(folder, loaded);
  for (const char* name : {"config.json", "model.safetensors.index.json", "preprocessor_config.json",
                           "processor_config.json", "video_preprocessor_config.json"})
    if (fs::exists(base.path / name)) write_text(folder / name, read_text(base.path / name));
  staged.commit();
  for (const auto& entry : fs::directory_iterator(target))
    artefact.bytes += entry.is_regular_file() ? entry.file_size() : 0;
  return artefact;
}

}  // namespace retort
