// What stands between two layers of a long pass, in a file, so that a pass that was killed goes on in the
// layer that it was in. Each text has two places, used by turns: what a text left one layer as stands until
// it has left the next.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>

#include "base/error.h"
#include "schedule/record_file.h"

namespace retort {

using at::Tensor;

class PassRecord {
 public:
  // `identity`: everything that decides the numbers. What other passes, which nobody works on, left in
  // `folder` is removed.
  PassRecord(const std::filesystem::path& folder, std::string_view identity);
  PassRecord(const PassRecord&) = delete;
  PassRecord& operator=(const PassRecord&) = delete;

  // States of these texts are [rows, width] of `type` at most. The disk for all of them is taken at once:
  // PassingFailure where it is full.
  void begin(const std::vector<int64_t>& rows, int64_t width, at::ScalarType type);
  // How many layers a text has gone through; -1: none, and its state is not here.
  int64_t layers_done(size_t text) const { return done_[text]; }
  Tensor state(size_t text) const;  // [rows, width] as it was kept; as long as the record
  // Called once for each layer count of a text, rising; by several threads, for different texts.
  Tensor keep(size_t text, int64_t layers, const Tensor& state);
  // What was asked for is kept elsewhere.
  void remove() { file_.remove(); }

 private:
  struct Entry;
  Entry& entry(size_t text, int64_t layers) const;
  std::byte* place(size_t text, int64_t layers) const;
  Tensor tensor_at(size_t text, int64_t layers, int64_t rows) const;

  RecordFile file_;
  std::byte* data_ = nullptr;
  std::vector<uint64_t> begins_;  // of each text's two places; then the end
  std::vector<int64_t> done_;
  int64_t width_ = 0;
  at::ScalarType type_ = at::kFloat;
};

}  // namespace retort
