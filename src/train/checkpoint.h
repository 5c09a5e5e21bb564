// Checkpoints: folders that appear whole or not at all and say by hash whether they still are.
//
//   checkpoints/step-00000100/          after step 100; step-00000100.3: and three forests into the step that
//   follows
//     weights.safetensors               the trainables, fp32, by their names
//     optimizer.safetensors             moments
//     gradients.safetensors             sums of the step begun, when there is one
//     state.json                        counters, the place in the data, the fingerprint
//     manifest.json                     size and sha256 of each file, written last
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "quant/types.h"

namespace retort {

// A tensor in memory: what is saved from, or loaded into.
struct NamedBytes {
  std::string name;
  WeightType type = WeightType::f32;
  std::vector<int64_t> shape;
  std::span<std::byte> bytes;
};

// A place between two forests of a run.
struct CheckpointName {
  int64_t steps = 0, forests = 0;
  auto operator<=>(const CheckpointName&) const = default;
  std::string folder() const;
  static std::optional<CheckpointName> from_folder(const std::string& name);
};

class Checkpoints {
 public:
  // What a killed save or removal left is removed. The caller holds the run's lock.
  explicit Checkpoints(std::filesystem::path folder);

  struct Content {
    std::vector<NamedBytes> weights, optimizer, gradients;
    OrderedJson state;
  };
  // Failure when the disk does not take it; everything saved before is untouched then. What was written is
  // read back and compared before the folder gets its name.
  void save(const CheckpointName& name, const Content& content) const;

  // By falling name.
  std::vector<CheckpointName> list() const;
  // The newest whose manifest verifies; `note` hears of each that does not. Failure where the machine does
  // not let one be read.
  std::optional<CheckpointName> newest(const std::function<void(const std::string&)>& note) const;
  // Throws FormatError with the first thing that is wrong.
  void verify(const CheckpointName& name) const;
  Json state(const CheckpointName& name) const;
  std::filesystem::path path(const CheckpointName& name) const { return folder_ / name.folder(); }

  // Removes all but the newest `keep_last` and `best_step`. Called after a save has succeeded, never before.
  void remove_older(int64_t keep_last, std::optional<int64_t> best_step) const;

 private:
  std::filesystem::path folder_;
};

// Whether a name inside the folder of checkpoints is that of one which is being saved or removed.
bool is_unfinished_checkpoint(std::string_view name);
// Removes those of FOLDER, when there is such a folder. Only for the one who holds the run's lock.
void remove_unfinished_checkpoints(const std::filesystem::path& folder);

// Fills `tensors` from a safetensors file that holds exactly these; FormatError otherwise, with nothing
// changed.
void load_tensors(const std::filesystem::path& file, const std::vector<NamedBytes>& tensors);
void save_tensors(const std::filesystem::path& file, const std::vector<NamedBytes>& tensors);

}  // namespace retort
