#include "schedule/pass_record.h"

#include <fmt/format.h>

#include <atomic>
#include <stdexcept>

#include "base/files.h"
#include "base/hash.h"

namespace retort {
namespace {

constexpr std::string_view kBegin = "retort-states-", kEnd = ".bin";

// Another recipe's, or one of other samples: nobody would ever go on with it.
std::filesystem::path only_record(const std::filesystem::path& folder, std::string_view identity) {
  make_folder(folder);
  const auto own = fmt::format("{}{}{}", kBegin, sha256(identity).substr(0, 16), kEnd);
  remove_records(folder, [&](const std::string& name) {
    return name != own && name.starts_with(kBegin) && name.ends_with(kEnd);
  });
  return folder / own;
}

}  // namespace

// Of one of a text's two places. `layers` is written last: what it stands for is whole then.
struct PassRecord::Entry {
  std::atomic<int64_t> layers;  // plus one; 0: nothing is there
  int64_t rows;
  ContentKey hash;
};

PassRecord::PassRecord(const std::filesystem::path& folder, std::string_view identity)
    : file_(only_record(folder, identity)) {}

void PassRecord::begin(const std::vector<int64_t>& rows, int64_t width, at::ScalarType type) {
  if (data_) throw std::logic_error("a pass record begins once");
  width_ = width, type_ = type;
  uint64_t at = whole_pages(rows.size() * 2 * sizeof(Entry));
  for (const auto count : rows) {
    begins_.push_back(at);
    at += 2 * whole_pages(static_cast<uint64_t>(count * width) * c10::elementSize(type));
  }
  begins_.push_back(at);
  data_ = file_.map(at);
  done_.assign(rows.size(), -1);
  for (size_t text = 0; text < rows.size(); ++text)
    for (const int64_t parity : {0, 1}) {
      const auto& found = entry(text, parity);
      const auto layers = found.layers.load() - 1;
      if (layers < 0 || layers % 2 != parity || layers <= done_[text] || found.rows < 1 ||
          found.rows > rows[text])
        continue;
      const auto state = tensor_at(text, layers, found.rows);
      Sha256 hash;
      hash.add({static_cast<const std::byte*>(state.const_data_ptr()), state.nbytes()});
      if (content_key(hash) == found.hash)
        done_[text] = layers;  // else a machine went down while it was written
      rest_pages(place(text, layers), state.nbytes());
    }
}

PassRecord::Entry& PassRecord::entry(size_t text, int64_t layers) const {
  return reinterpret_cast<Entry*>(data_)[2 * text + static_cast<size_t>(layers % 2)];
}

std::byte* PassRecord::place(size_t text, int64_t layers) const {
  const auto begin = begins_[text], half = (begins_[text + 1] - begin) / 2;
  return data_ + begin + static_cast<uint64_t>(layers % 2) * half;
}

Tensor PassRecord::tensor_at(size_t text, int64_t layers, int64_t rows) const {
  return at::from_blob(place(text, layers), {rows, width_}, at::TensorOptions(type_));
}

Tensor PassRecord::state(size_t text) const {
  return tensor_at(text, done_[text], entry(text, done_[text]).rows);
}

Tensor PassRecord::keep(size_t text, int64_t layers, const Tensor& state) {
  const at::NoGradGuard no_graph;
  if (layers <= done_[text] || state.scalar_type() != type_ || state.size(1) != width_)
    throw std::logic_error("a pass record keeps another state than it was begun for");
  auto& where = entry(text, layers);
  where.layers = 0;
  if (state.size(0) == 0) return state;
  auto kept = tensor_at(text, layers, state.size(0)).copy_(state);
  Sha256 hash;
  hash.add({static_cast<const std::byte*>(kept.const_data_ptr()), kept.nbytes()});
  where.rows = kept.size(0);
  where.hash = content_key(hash);
  where.layers = layers + 1;
  rest_pages(kept.data_ptr(), kept.nbytes());
  if (done_[text] >= 0 && layers % 2 != done_[text] % 2) rest_pages(place(text, done_[text]), kept.nbytes());
  done_[text] = layers;
  return kept;
}

}  // namespace retort
