#include "schedule/walk_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include "base/files.h"
#include "base/system_failure.h"

namespace retort {
namespace {

constexpr std::string_view kBegin = "retort-step-", kEnd = ".bin";

std::string begin_of(const WalkName& name) {
  return fmt::format("{}{}-", kBegin, sha256(name.training).substr(0, 16));
}

bool is_record(const std::string& name) { return name.starts_with(kBegin) && name.ends_with(kEnd); }

// The step of a record of the training whose records begin so; nothing: it is another's.
std::optional<int64_t> step_of(const std::string& name, const std::string& training) {
  if (!name.starts_with(training) || !name.ends_with(kEnd)) return std::nullopt;
  const auto* begin = name.data() + training.size();
  const auto* end = name.data() + name.size() - kEnd.size();
  int64_t step = 0;
  const auto [rest, error] = std::from_chars(begin, end, step);
  return error == std::errc() && rest == end ? std::optional(step) : std::nullopt;
}

ContentKey key_of(const std::string& text) {
  Sha256 hash;
  hash.add(text);
  return content_key(hash);
}

ContentKey key_of(const std::byte* data, uint64_t bytes) {
  Sha256 hash;
  hash.add(std::span(data, static_cast<size_t>(bytes)));
  return content_key(hash);
}

}  // namespace

struct WalkRecord::Head {
  ContentKey content;
};
// Of what a text left a layer as, or of what flows. `number` is written last: what it stands for is whole
// then.
struct WalkRecord::Entry {
  std::atomic<int64_t> number;  // of layers, plus one; 0: nothing is there
  int64_t rows;                 // -1: nothing flows
  ContentKey hash;
};
struct WalkRecord::LayerEntry {
  std::atomic<int64_t> whole;
  int64_t index_rows;
  double index_nats;
  ContentKey hash;
};

WalkRecord::WalkRecord(const std::filesystem::path& folder, const WalkName& name)
    : folder_(folder),
      training_(begin_of(name)),
      name_(fmt::format("{}{}{}", training_, name.step, kEnd)),
      content_(key_of(name.content)) {
  make_folder(folder_);
  remove_records(folder_, [&](const std::string& other) {
    if (!is_record(other)) return false;
    const auto step = step_of(other, training_);
    return !step || *step < name.step;
  });
  file_ = std::make_unique<RecordFile>(folder_ / name_);
}

// A killed session may have left a later step, which then is in the way of what comes before it.
void WalkRecord::map(uint64_t size) {
  try {
    data_ = file_->map(size);
  } catch (const PassingFailure&) {
    const auto later = [&](const std::string& other) {
      return other != name_ && step_of(other, training_).has_value();
    };
    if (remove_records(folder_, later) == 0) throw;
    file_ = std::make_unique<RecordFile>(folder_ / name_);
    data_ = file_->map(size);
  }
  size_ = size;
}

void WalkRecord::begin(Sizes sizes) {
  if (data_) throw std::logic_error("a walk record begins once");
  sizes_ = std::move(sizes);
  const auto texts = sizes_.rows.size();
  const auto layers = static_cast<size_t>(sizes_.layers());
  head_bytes_ =
      whole_pages(sizeof(Head) + texts * (layers + 3) * sizeof(Entry) + layers * sizeof(LayerEntry));
  auto at = head_bytes_;
  for (const auto rows : sizes_.rows) {
    texts_.push_back(at);
    at += (layers + 3) *
          whole_pages(static_cast<uint64_t>(rows * sizes_.width) * c10::elementSize(sizes_.type));
  }
  for (int64_t layer = 0; layer < sizes_.layers(); ++layer) {
    gradients_.push_back(at);
    at += whole_pages(gradient_bytes(layer));
  }
  map(at);
  left_.assign(texts, -1);
  if (head().content != content_) {
    std::memset(data_, 0, head_bytes_);
    head().content = content_;
  }
  look();
}

// What is whole: a machine that went down may have written a part.
void WalkRecord::look() {
  bool all_left = true;
  for (size_t text = 0; text < left_.size(); ++text) {
    for (int64_t layers = 0; layers <= sizes_.layers(); ++layers) {
      if (!holds(state_entry(text, layers), state_place(text, layers), layers, sizes_.rows[text])) break;
      left_[text] = layers;
    }
    all_left = all_left && left_[text] == sizes_.layers();
  }
  if (!all_left) return;
  for (auto layer = sizes_.layers() - 1; layer >= 0 && layer_is_whole(layer); --layer) done_ = layer;
  for (size_t text = 0; done_ && text < left_.size(); ++text)
    if (!holds(flow_entry(text, *done_), flow_place(text, *done_), *done_, sizes_.rows[text])) done_.reset();
}

bool WalkRecord::holds(const Entry& entry, std::byte* place, int64_t number, int64_t most_rows) const {
  if (entry.number.load() != number + 1 || entry.rows < -1 || entry.rows > most_rows) return false;
  if (entry.rows < 0) return true;
  const auto bytes = tensor_at(place, entry.rows).nbytes();
  const bool same = key_of(place, bytes) == entry.hash;
  rest_pages(place, bytes);
  return same;
}

bool WalkRecord::layer_is_whole(int64_t layer) const {
  const auto& entry = layer_entry(layer);
  if (entry.whole.load() == 0) return false;
  auto* const place = data_ + gradients_[static_cast<size_t>(layer)];
  const auto bytes = gradient_bytes(layer);
  const bool same = key_of(place, bytes) == entry.hash;
  rest_pages(place, bytes);
  return same;
}

WalkRecord::Head& WalkRecord::head() const { return *reinterpret_cast<Head*>(data_); }

WalkRecord::Entry& WalkRecord::state_entry(size_t text, int64_t layers) const {
  auto* const entries = reinterpret_cast<Entry*>(data_ + sizeof(Head));
  return entries[text * static_cast<size_t>(sizes_.layers() + 3) + static_cast<size_t>(layers)];
}

WalkRecord::Entry& WalkRecord::flow_entry(size_t text, int64_t layer) const {
  return state_entry(text, sizes_.layers() + 1 + layer % 2);
}

WalkRecord::LayerEntry& WalkRecord::layer_entry(int64_t layer) const {
  auto* const entries = reinterpret_cast<LayerEntry*>(&state_entry(sizes_.rows.size(), 0));
  return entries[layer];
}

std::byte* WalkRecord::state_place(size_t text, int64_t layers) const {
  const auto one =
      whole_pages(static_cast<uint64_t>(sizes_.rows[text] * sizes_.width) * c10::elementSize(sizes_.type));
  return data_ + texts_[text] + static_cast<uint64_t>(layers) * one;
}

std::byte* WalkRecord::flow_place(size_t text, int64_t layer) const {
  return state_place(text, sizes_.layers() + 1 + layer % 2);
}

Tensor WalkRecord::tensor_at(std::byte* place, int64_t rows) const {
  return at::from_blob(place, {rows, sizes_.width}, at::TensorOptions(sizes_.type));
}

// Whether each leaf has a gradient, then the numbers of all.
uint64_t WalkRecord::gradient_bytes(int64_t layer) const {
  uint64_t bytes = 0;
  for (const auto numbers : sizes_.leaves[static_cast<size_t>(layer)])
    bytes += sizeof(int64_t) + static_cast<uint64_t>(numbers) * sizeof(float);
  return bytes;
}

Tensor WalkRecord::state(size_t text, int64_t layers) const {
  return tensor_at(state_place(text, layers), state_entry(text, layers).rows);
}

Tensor WalkRecord::keep(size_t text, int64_t layers, const Tensor& state) {
  const at::NoGradGuard no_graph;
  if (layers != left_[text] + 1 || state.scalar_type() != sizes_.type || state.size(1) != sizes_.width)
    throw std::logic_error("a walk record keeps another state than it was begun for");
  auto& entry = state_entry(text, layers);
  auto* const place = state_place(text, layers);
  entry.number = 0;
  auto kept = tensor_at(place, state.size(0)).copy_(state);
  entry.rows = kept.size(0);
  entry.hash = key_of(place, kept.nbytes());
  entry.number = layers + 1;
  rest_pages(place, kept.nbytes());
  left_[text] = layers;
  return kept;
}

Tensor WalkRecord::flow(size_t text) const {
  const auto rows = flow_entry(text, *done_).rows;
  return rows < 0 ? Tensor() : tensor_at(flow_place(text, *done_), rows);
}

Tensor WalkRecord::keep_flow(size_t text, int64_t layer, const Tensor& gradient) {
  const at::NoGradGuard no_graph;
  auto& entry = flow_entry(text, layer);
  auto* const place = flow_place(text, layer);
  entry.number = 0;
  Tensor kept;
  if (gradient.defined()) {
    if (gradient.scalar_type() != sizes_.type || gradient.size(1) != sizes_.width)
      throw std::logic_error("a walk record keeps another gradient than it was begun for");
    kept = tensor_at(place, gradient.size(0)).copy_(gradient.detach());
    entry.hash = key_of(place, kept.nbytes());
    rest_pages(place, kept.nbytes());
  }
  entry.rows = kept.defined() ? kept.size(0) : -1;
  entry.number = layer + 1;
  return kept;
}

void WalkRecord::finish(int64_t layer, const Learned& learned) {
  const at::NoGradGuard no_graph;
  const auto& numbers = sizes_.leaves[static_cast<size_t>(layer)];
  if (learned.gradients.size() != numbers.size() || layer != done_.value_or(sizes_.layers()) - 1)
    throw std::logic_error("a walk record finishes another layer than is at work");
  auto* const place = data_ + gradients_[static_cast<size_t>(layer)];
  auto* const there = reinterpret_cast<int64_t*>(place);
  auto* values = reinterpret_cast<float*>(there + numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto& gradient = learned.gradients[i];
    there[i] = gradient.defined() ? 1 : 0;
    if (gradient.defined())
      at::from_blob(values, {numbers[i]}, at::TensorOptions(at::kFloat)).copy_(gradient.reshape({-1}));
    else std::fill_n(values, numbers[i], 0.0f);
    values += numbers[i];
  }
  auto& entry = layer_entry(layer);
  entry.index_rows = learned.index_rows;
  entry.index_nats = learned.index_nats;
  const auto bytes = gradient_bytes(layer);
  entry.hash = key_of(place, bytes);
  entry.whole = 1;
  rest_pages(place, bytes);
  done_ = layer;
}

WalkRecord::Learned WalkRecord::learned(int64_t layer) const {
  const auto& numbers = sizes_.leaves[static_cast<size_t>(layer)];
  auto* const there = reinterpret_cast<int64_t*>(data_ + gradients_[static_cast<size_t>(layer)]);
  auto* values = reinterpret_cast<float*>(there + numbers.size());
  const auto& entry = layer_entry(layer);
  Learned learned{{}, entry.index_nats, entry.index_rows};
  for (size_t i = 0; i < numbers.size(); ++i) {
    learned.gradients.push_back(
        there[i] != 0 ? at::from_blob(values, {numbers[i]}, at::TensorOptions(at::kFloat)) : Tensor());
    values += numbers[i];
  }
  return learned;
}

void WalkRecord::rest(const Tensor& value) const {
  if (!value.defined() || value.numel() == 0) return;
  auto* const begin = static_cast<std::byte*>(value.data_ptr());
  if (begin >= data_ + head_bytes_ && begin < data_ + size_) rest_pages(begin, value.nbytes());
}

}  // namespace retort
