#include "models/layer_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace retort {

LayerStream::LayerStream(File file, Budget budget)
    : file_(std::move(file)),
      budget_(std::move(budget)),
      room_(budget_.weights),
      reader_([this] { read_ahead(); }) {}

LayerStream::~LayerStream() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  expected_.notify_all();
  reader_.join();
}

BaseMatrix LayerStream::take(const Linear& layer) {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto found = entries_.find(layer.place);
    if (found == entries_.end()) return read(layer.place, lock);
    if (found->second.there) {
      found->second.used = ++calls_;
      return found->second.held;
    }
    arrived_.wait(lock);
  }
}

void LayerStream::expect(const std::vector<const Linear*>& next) {
  {
    const std::lock_guard lock(mutex_);
    queue_.clear();
    for (const auto* layer : next)
      if (layer->source) queue_.push_back(layer->place);
  }
  expected_.notify_all();
}

void LayerStream::let_go(const std::vector<const Linear*>& layers) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto* layer : layers)
      if (const auto found = entries_.find(layer->place);
          found != entries_.end() && found->second.there && !kept_.contains(layer->place))
        remove(found);
  }
  expected_.notify_all();  // there is room
}

bool LayerStream::keep(const std::vector<const Linear*>& layers, uint64_t room) {
  uint64_t bytes = 0;
  std::set<TensorPlace> places;
  for (const auto* layer : layers)
    if (layer->source) bytes += file_.bytes(layer->place), places.insert(layer->place);
  const std::lock_guard lock(mutex_);
  const bool fits = bytes <= room;
  kept_ = fits ? std::move(places) : std::set<TensorPlace>();
  room_ = fits ? std::max(bytes, budget_.weights) : budget_.weights;
  make_room(0);
  return fits;
}

// The lock is free while the file is read, and nobody else reads the same.
const BaseMatrix& LayerStream::read(const TensorPlace& place, std::unique_lock<std::mutex>& lock) {
  const auto bytes = file_.bytes(place);
  make_room(bytes);
  auto& entry = entries_[place];
  entry.bytes = bytes;
  entry.used = ++calls_;
  held_bytes_ += bytes;
  const bool first = seen_.insert(place).second;
  BaseMatrix matrix;
  lock.unlock();
  try {
    matrix = file_.read(place, first);
  } catch (...) {
    lock.lock();
    seen_.erase(place);
    held_bytes_ -= bytes;
    entries_.erase(place);
    arrived_.notify_all();  // whoever waits for it tries by himself, and is told the same
    throw;
  }
  lock.lock();
  entry.held = std::move(matrix);  // entries of a map stay where they are, and this one is nobody's to remove
  entry.there = true;
  arrived_.notify_all();
  return entry.held;
}

// What was asked for longest ago goes first. Its bytes stay with those who still multiply with them.
void LayerStream::make_room(uint64_t bytes) {
  while (held_bytes_ + bytes > room_) {
    auto oldest = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
      if (entry->second.there && (oldest == entries_.end() || entry->second.used < oldest->second.used))
        oldest = entry;
    if (oldest == entries_.end()) return;
    remove(oldest);
  }
}

void LayerStream::remove(Entries::iterator entry) {
  held_bytes_ -= entry->second.bytes;
  entry->second.held = {};
  file_.give_back(entry->first);
  entries_.erase(entry);
}

void LayerStream::read_ahead() {
  std::unique_lock lock(mutex_);
  while (true) {
    // Never at the cost of what is there: that is at work, or comes before.
    expected_.wait(lock, [&] {
      while (!queue_.empty() && entries_.contains(queue_.front())) queue_.pop_front();
      return ending_ || (!queue_.empty() && held_bytes_ + file_.bytes(queue_.front()) <= room_);
    });
    if (ending_) return;
    const auto place = queue_.front();
    queue_.pop_front();
    try {
      read(place, lock);
    } catch (...) {
      queue_.clear();  // the one who needs it will read it, and be told
    }
  }
}

std::string describe(const LayerStream& stream) {
  const auto& budget = stream.budget();
  const auto size = [](uint64_t count) {
    const auto mebibytes = static_cast<double>(count) / (1 << 20);
    return mebibytes >= 1024 ? fmt::format("{:.1f} GiB", mebibytes / 1024)
                             : fmt::format("{:.1f} MiB", mebibytes);
  };
  const auto begin = fmt::format(
      "layer by layer: {} of matrices stay in the file and are read for all texts together, {} of them",
      size(budget.stored), size(budget.weights));
  if (!budget.scratch.empty())
    return fmt::format(
        "{} are in memory at a time (model.memory); between layers texts wait in {} "
        "(model.scratch){}",
        begin, printable(budget.scratch),
        budget.keeps_activations ? ", and what backward needs of them (model.scratch_holds)" : "");
  return fmt::format("{} and {} between layers are in memory at a time (model.memory)", begin,
                     size(budget.states));
}

}  // namespace retort
