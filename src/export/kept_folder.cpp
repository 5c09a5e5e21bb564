// A merged model in the base's own files. Types and shapes stay what they are, and so every byte of a shard
// stays where it is: a shard is copied, and what the training changed is written in its place.
#include <algorithm>
#include <cstring>
#include <deque>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "export/kept_tensor.h"
#include "formats/parse.h"
#include "formats/weight_file.h"
#include "models/fp8_matrix.h"
#include "models/tensor_names.h"
#include "models/text_part.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

class Base {
 public:
  explicit Base(const LoadedModel& loaded) : path(loaded.path) {
    if (!fs::is_directory(path))
      throw RecipeError(
          fmt::format("{}: {} is no safetensors folder, whose types could be kept; set bf16, or let "
                      "export.gguf name a type",
                      kKeepKey, printable(path.string())));
    const auto& config = loaded.model->config;
    if (config.four_bit)
      throw RecipeError(
          fmt::format("{}: matrices of 4-bit codes ({}) are read, not written; set bf16, or let "
                      "export.gguf name a type",
                      kKeepKey, name_of(config.four_bit->method)));
    file_ = open_safetensors_folder(path);
    for (const auto& tensor : file_.tensors)
      if (std::find(shards.begin(), shards.end(), tensor.file) == shards.end()) shards.push_back(tensor.file);
    std::sort(shards.begin(), shards.end(),
              [](const auto& a, const auto& b) { return a->name() < b->name(); });
    if (loaded.multimodal) keep_text_part(file_);
  }

  // Every tensor of the trained model where the base has it.
  std::vector<KeptTensor> tensors(const Model& model) const {
    std::vector<KeptTensor> all;
    for (auto& tensor : merged_tensors(model)) {
      const auto* view = file_.find(tensor.name);
      const bool copy = tensor.place.role == Role::embedding || tensor.place.role == Role::head;
      if (!view && copy && is_behind_the_last(model.config, tensor.place)) continue;  // not every base has it
      if (!view && tensor.place.expert >= 0) view = part_of_stack(model.config, tensor.place);
      if (!view)
        throw RecipeError(
            fmt::format("{}: the base has no {}, which the trained model has (an embedding and a "
                        "head that were one matrix?); set bf16",
                        kKeepKey, printable(tensor.name)));
      if (view->shape != tensor.shape)
        throw RecipeError(fmt::format(
            "{}: {} is {} in the base and {} in the trained model (tokens that were "
            "added?); set bf16",
            kKeepKey, printable(tensor.name), describe_shape(view->shape), describe_shape(tensor.shape)));
      KeptTensor kept{std::move(tensor), view, {}};
      if (view->type == WeightType::f8_e4m3 && model.config.fp8) {
        find_scales(*model.config.fp8, model.config.experts, kept);
        if (kept.scales->type != WeightType::f8_e8m0 && !can_quantize(kept.scales->type))
          throw RecipeError(fmt::format("{}: scales of {} are not written; set bf16", kKeepKey,
                                        type_info(kept.scales->type).name));
      } else if (!can_quantize(view->type) || type_info(view->type).block_elements != 1) {
        throw RecipeError(fmt::format("{}: {} is {}, which is not written; set bf16", kKeepKey,
                                      printable(kept.tensor.name), type_info(view->type).name));
      }
      all.push_back(std::move(kept));
    }
    return of_own_scales(std::move(all));
  }

  const fs::path path;
  // All files of weights, those of a multimodal model's other parts among them.
  std::vector<std::shared_ptr<const MappedFile>> shards;

 private:
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

  // Scales of a matrix of its own, or of one among those of all experts, as it is read
  // (models/stored_weights.cpp).
  void find_scales(const Fp8Config& fp8, int64_t experts, KeptTensor& kept) const {
    kept.scales = find_f8_scales(file_, *kept.view);
    kept.power_of_two = fp8.power_of_two;
    if (kept.scales && kept.view->name != kept.tensor.name) {
      const auto& place = kept.tensor.place;
      const bool half = place.role != Role::down;  // of gate and up
      kept.scales = &parts_.emplace_back(
          scales_in_stack(fp8, *kept.view, *kept.scales,
                          {place.expert, experts, int64_t{place.role == Role::up}, half ? 2 : 1}));
    }
    kept.base = kept.scales ? read_scaled_f8(fp8, *kept.view, *kept.scales)
                            : read_scaled_f8(file_, fp8, *kept.view);  // which says what is missing
  }

  // Where one scale stands for gate and up of an expert, or for all experts of a tensor, they are one block,
  // and one matrix here.
  std::vector<KeptTensor> of_own_scales(std::vector<KeptTensor> all) const {
    std::map<const std::byte*, std::vector<size_t>> sharing;
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i].one_block()) sharing[all[i].scales->data.data()].push_back(i);
    std::vector<KeptTensor> own;
    for (size_t i = 0; i < all.size(); ++i) {
      const auto members = all[i].one_block() ? sharing[all[i].scales->data.data()] : std::vector{i};
      if (members.front() != i) continue;  // with the first of them
      std::vector<KeptTensor> parts;
      for (const auto member : members) parts.push_back(std::move(all[member]));
      own.push_back(parts.size() == 1 ? std::move(parts.front()) : joined_matrix(std::move(parts)));
    }
    return own;
  }

  // Of matrices that follow each other in their tensor.
  KeptTensor joined_matrix(std::vector<KeptTensor> parts) const {
    std::ranges::sort(parts, {}, [](const KeptTensor& part) { return part.view->data.data(); });
    const auto& first = parts.front();
    const auto columns = first.tensor.row_length();
    const bool one_expert = parts.back().tensor.place.expert == first.tensor.place.expert;
    auto& view = parts_.emplace_back(*first.view);
    view.shape = {0, columns};
    size_t bytes = 0;
    std::vector<MergedTensor> tensors;
    for (auto& part : parts) {
      if (part.view->data.data() != view.data.data() + bytes || part.tensor.row_length() != columns)
        throw std::logic_error("matrices of one scale do not follow each other in " + view.name);
      bytes += part.view->data.size(), view.shape[0] += part.tensor.row_count();
      tensors.push_back(std::move(part.tensor));
    }
    view.data = {view.data.data(), bytes};
    KeptTensor joined{
        {one_expert ? fmt::format("{} (expert {})", view.name, tensors[0].place.expert) : view.name,
         view.shape,
         tensors[0].place,
         {}},
        &view,
        scaled_f8_weight(view.shape[0], columns, view.data, view.file, first.base.scales, view.shape[0],
                         columns),
        first.scales,
        first.power_of_two};
    joined.tensor.rows = [tensors = std::move(tensors)](int64_t from, int64_t count) {
      std::vector<Tensor> rows;
      for (const auto& tensor : tensors) {
        const auto here = std::min(count, tensor.row_count() - from);
        if (here > 0) {
          rows.push_back(tensor.rows(from, here));
          from = 0, count -= here;
        } else {
          from -= tensor.row_count();
        }
        if (count == 0) break;
      }
      return at::cat(rows);
    };
    return joined;
  }

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
  auto tensors = base.tensors(*loaded.model);
  Artefact artefact{
      "safetensors", loaded.model->config.fp8 ? "F8_E4M3" : "the base's types", target, 0, {}, 0};
  std::vector<RoundedTensor> rounded(tensors.size());
  std::map<const MappedFile*, std::vector<Patch>> patches;
  for (size_t i = 0; i < tensors.size() && weights == Weights::written; ++i) {
    auto& kept = tensors[i];
    rounded[i] = round_tensor(kept, threads);
    const auto& update = rounded[i].update;
    const auto* scales = &rounded[i].scales;
    if (!update.any) continue;
    artefact.delta_error = std::max(artefact.delta_error, update.error());
    if (update.share_left() < 0.5)
      artefact.vanished.push_back(
          fmt::format("{} ({:.0f} % of its update is left)", kept.tensor.name, 100 * update.share_left()));
    patches[kept.view->file.get()].push_back(
        {kept.view->data, [&kept, threads](AtomicFile& out) {
           encode_in_order(
               kept.tensor.row_count(), kept.chunk(), threads,
               [&](int64_t first, int64_t count) { return encoded_rows(kept, first, count); },
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
