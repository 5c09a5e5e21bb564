#include "train/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/system_failure.h"
#include "formats/weight_file.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kManifest = "manifest.json", kState = "state.json", kWeights = "weights.safetensors",
               kOptimizer = "optimizer.safetensors", kGradients = "gradients.safetensors";
constexpr std::string_view kSaving = ".saving-", kRemoving = ".removing-";

uint64_t total_bytes(const std::vector<NamedBytes>& tensors) {
  uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor.bytes.size();
  return bytes;
}

// Some MiB at a time: pages that were read would count as this process's memory, and of an embedding they are
// more than a step needs beyond what is trained.
bool reads_back(const TensorView& view, std::span<const std::byte> written) {
  constexpr size_t kPiece = size_t{4} << 20;
  if (view.data.size() != written.size()) return false;
  for (size_t at = 0; at < written.size(); at += kPiece) {
    const auto piece = view.data.subspan(at, std::min(kPiece, written.size() - at));
    if (std::memcmp(piece.data(), written.data() + at, piece.size()) != 0) return false;
    view.file->release(piece);
  }
  return true;
}

// What the page cache holds is not yet what the disk will give back, but a write that went wrong on its way
// there is seen.
void require_equal(const fs::path& path, const std::vector<NamedBytes>& tensors) {
  const auto file = open_safetensors(path);
  for (const auto& tensor : tensors) {
    const auto* view = file.find(tensor.name);
    if (!view || !reads_back(*view, tensor.bytes))
      throw Failure(
          fmt::format("{}: {}: reads back differently than it was written", path.string(), tensor.name));
  }
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw_writing(folder.string() + ": cannot be removed", error.value());
}

// Under its own name a checkpoint is whole until the very end: a removal that is killed leaves no half of
// one.
void remove_checkpoint(const fs::path& folder, const CheckpointName& name) {
  const auto removing = folder / (std::string(kRemoving) + name.folder());
  remove_folder(removing);
  if (::rename((folder / name.folder()).c_str(), removing.c_str()) != 0)
    throw_writing((folder / name.folder()).string() + ": cannot be removed", errno);
  remove_folder(removing);
}

// Steps are counted in whole numbers; anything else in a name is not ours.
std::optional<int64_t> number(std::string_view digits) {
  if (digits.empty() || digits.size() > 15 || digits.find_first_not_of("0123456789") != digits.npos)
    return std::nullopt;
  return std::stoll(std::string(digits));
}

}  // namespace

std::string CheckpointName::folder() const {
  return fmt::format("step-{:08}{}", steps, forests > 0 ? fmt::format(".{}", forests) : "");
}

std::optional<CheckpointName> CheckpointName::from_folder(const std::string& name) {
  constexpr std::string_view prefix = "step-";
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto rest = std::string_view(name).substr(prefix.size());
  const auto point = rest.find('.');
  const auto steps = number(rest.substr(0, point));
  const auto forests = point == rest.npos ? std::optional<int64_t>(0) : number(rest.substr(point + 1));
  if (!steps || !forests) return std::nullopt;
  const CheckpointName found{*steps, *forests};
  return found.folder() == name ? std::optional(found) : std::nullopt;
}

Checkpoints::Checkpoints(fs::path folder) : folder_(std::move(folder)) {
  make_folder(folder_);
  sync_folder(folder_.has_parent_path() ? folder_.parent_path()
                                        : ".");  // checkpoints last no longer than the name of their folder
  remove_unfinished_checkpoints(folder_);
}

bool is_unfinished_checkpoint(std::string_view name) {
  for (const auto mark : {kSaving, kRemoving})
    if (name.starts_with(mark) && CheckpointName::from_folder(std::string(name.substr(mark.size()))))
      return true;
  return false;
}

void remove_unfinished_checkpoints(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (is_unfinished_checkpoint(entry.path().filename().string())) found.push_back(entry.path());
  for (const auto& path : found) remove_folder(path);
}

void Checkpoints::save(const CheckpointName& name, const Content& content) const {
  const auto temporary = folder_ / (std::string(kSaving) + name.folder());
  try {
    remove_folder(temporary);
    make_folder(temporary);
    const auto state = content.state.dump(1) + "\n";
    require_space(temporary, total_bytes(content.weights) + total_bytes(content.optimizer) +
                                 total_bytes(content.gradients) + state.size() + (1 << 20));
    OrderedJson files = OrderedJson::object();
    const auto keep = [&](const char* file, const std::vector<NamedBytes>* tensors) {
      if (tensors) {
        save_tensors(temporary / file, *tensors);
        require_equal(temporary / file, *tensors);
      } else {
        write_text(temporary / file, state);
      }
      files[file] = {{"bytes", fs::file_size(temporary / file)}, {"sha256", sha256_file(temporary / file)}};
    };
    keep(kWeights, &content.weights);
    keep(kOptimizer, &content.optimizer);
    if (!content.gradients.empty()) keep(kGradients, &content.gradients);
    keep(kState, nullptr);
    write_text(temporary / kManifest,
               OrderedJson{{"files", files}}.dump(1) + "\n");  // last: with it the folder is whole
    if (fs::exists(path(name)))
      remove_checkpoint(folder_, name);  // it did not verify, or the run would have started from it
    if (::rename(temporary.c_str(), path(name).c_str()) != 0)
      throw_writing(path(name).string() + ": rename failed", errno);
    sync_folder(folder_);
  } catch (const fs::filesystem_error& error) {
    throw_writing(error);
  } catch (const FormatError& error) {  // written a moment ago: the machine's fault, not a bad input
    throw Failure(error.what());
  }
}

std::vector<CheckpointName> Checkpoints::list() const {
  std::vector<CheckpointName> names;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (const auto name = CheckpointName::from_folder(entry.path().filename().string());
        name && entry.is_directory())
      names.push_back(*name);
  std::sort(names.rbegin(), names.rend());
  return names;
}

void Checkpoints::verify(const CheckpointName& name) const {
  const auto manifest_path = path(name) / kManifest;
  const auto manifest = read_json(manifest_path);
  const auto files = manifest.is_object() ? manifest.find("files") : manifest.end();
  if (!manifest.is_object() || files == manifest.end() || !files->is_object())
    corrupt(manifest_path.string(), "", "has no list of files");
  for (const auto* needed : {kWeights, kOptimizer, kState})
    if (!files->contains(needed)) corrupt(manifest_path.string(), needed, "is not listed");
  for (const auto& [file, record] : files->items()) {
    const auto file_path = file_beneath(path(name), file);
    const Json no_value;
    const auto value = [&record = record, &no_value](const char* key) -> const Json& {
      return record.is_object() && record.contains(key) ? record[key] : no_value;
    };
    const auto size = fs::file_size(file_path);
    if (whole_number(value("bytes")) != size)
      corrupt(file_path.string(), "",
              fmt::format("is {}, the manifest gives {}", bytes(size), value("bytes").dump()));
    if (value("sha256") != Json(sha256_file(file_path)))
      corrupt(file_path.string(), "", "does not have the sha256 that the manifest gives");
  }
}

std::optional<CheckpointName> Checkpoints::newest(const std::function<void(const std::string&)>& note) const {
  for (const auto& name : list()) {
    try {
      verify(name);
      return name;
    } catch (const FormatError& error) {
      note(fmt::format("checkpoint {} is damaged and left out: {}", name.folder(), error.what()));
    } catch (const fs::filesystem_error& error) {
      // What cannot be read now is not damaged: the run would begin anew, and remove it.
      if (trouble_of(error.code().value()) != Trouble::bad_input) throw_writing(error);
      note(fmt::format("checkpoint {} is damaged and left out: {}", name.folder(), error.what()));
    }
  }
  return std::nullopt;
}

Json Checkpoints::state(const CheckpointName& name) const { return read_json(path(name) / kState); }

void Checkpoints::remove_older(int64_t keep_last, std::optional<int64_t> best_step) const {
  int64_t kept = 0;
  for (const auto& name : list()) {
    const bool best = best_step && name == CheckpointName{*best_step, 0};
    if (++kept > keep_last && !best) remove_checkpoint(folder_, name);
  }
}

void save_tensors(const fs::path& file, const std::vector<NamedBytes>& tensors) {
  std::vector<TensorSource> sources;
  for (const auto& tensor : tensors)
    sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.bytes));
  write_safetensors(file, sources, {});
}

void load_tensors(const fs::path& path, const std::vector<NamedBytes>& tensors) {
  const auto file = open_safetensors(path);
  for (const auto& tensor : tensors) {
    const auto* view = file.find(tensor.name);
    if (!view) corrupt(path.string(), tensor.name, "is missing; the run trained something else");
    if (view->type != tensor.type || view->shape != tensor.shape)
      corrupt(path.string(), tensor.name,
              fmt::format("is {} [{}], this run needs {} [{}]", type_info(view->type).name,
                          fmt::join(view->shape, ", "), type_info(tensor.type).name,
                          fmt::join(tensor.shape, ", ")));
  }
  if (file.tensors.size() != tensors.size())
    corrupt(path.string(), "",
            fmt::format("holds {} tensors, this run needs {}; the run trained something else",
                        file.tensors.size(), tensors.size()));
  for (const auto& tensor : tensors) {
    const auto* view = file.find(tensor.name);
    std::memcpy(tensor.bytes.data(), view->data.data(), view->data.size());
    view->file->release(view->data);
  }
  file.require_unchanged();
}

}  // namespace retort
