#include "schedule/shelf.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "base/bus_error.h"
#include "base/files.h"
#include "base/system_failure.h"
#include "ops/new_tensors.h"
#include "schedule/record_file.h"

namespace retort {
namespace {

constexpr uint64_t kGrowth = uint64_t{64} << 20;

// A file without a name in `folder`.
int nameless_file(const std::filesystem::path& folder) {
  make_folder(folder);
  const auto descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor >= 0) return descriptor;
  if (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT) {  // a file system without such files
    auto name = (folder / ".states-XXXXXX").string();
    if (const auto named = ::mkostemp(name.data(), O_CLOEXEC); named >= 0) {
      ::unlink(name.c_str());
      return named;
    }
  }
  throw_writing(fmt::format("{}: a scratch file cannot be made", printable(folder.string())), errno);
}

}  // namespace

// Grows by mapped parts; what is given back is used again, the first place that is large enough.
class Shelf::File {
 public:
  explicit File(std::filesystem::path folder)
      : folder_(std::move(folder)), descriptor_(nameless_file(folder_)) {}
  ~File() {
    for (const auto& part : parts_) {
      remove_mapped_range(part.range);
      ::munmap(part.begin, part.size);
    }
    ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::byte* take(uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto found = std::ranges::find_if(free_, [&](const auto& place) { return place.second >= bytes; });
    if (found == free_.end()) found = grow(bytes);
    auto* const begin = found->first;
    const auto rest = found->second - bytes;
    free_.erase(found);
    if (rest > 0) free_.emplace(begin + bytes, rest);
    return begin;
  }
  void give_back(std::byte* begin, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto place = free_.emplace(begin, bytes).first;
    if (const auto next = std::next(place); next != free_.end() && joins(place, next)) {
      place->second += next->second;
      free_.erase(next);
    }
    if (place == free_.begin()) return;
    if (const auto before = std::prev(place); joins(before, place)) {
      before->second += place->second;
      free_.erase(place);
    }
  }
  // Somebody has what begins there.
  bool taken(std::byte* begin) const {
    const std::lock_guard lock(mutex_);
    const auto after = free_.upper_bound(begin);
    if (after == free_.begin()) return true;
    const auto& [free, bytes] = *std::prev(after);
    return begin >= free + bytes;
  }
  bool holds(const std::byte* address) const {
    const std::lock_guard lock(mutex_);
    return part_of(address) != nullptr;
  }

 private:
  struct Part {
    std::byte* begin;
    uint64_t size;
    MappedRange* range;
  };
  using Places = std::map<std::byte*, uint64_t>;  // begin, bytes

  const Part* part_of(const std::byte* address) const {
    for (const auto& part : parts_)
      if (address >= part.begin && address < part.begin + part.size) return &part;
    return nullptr;
  }
  // Neighbours of two parts may touch in memory without being one place of the file.
  bool joins(Places::iterator before, Places::iterator after) const {
    return before->first + before->second == after->first && part_of(before->first) == part_of(after->first);
  }
  Places::iterator grow(uint64_t bytes) {
    const auto size = std::max(bytes, kGrowth);
    int error = 0;
    do error = ::posix_fallocate(descriptor_, static_cast<off_t>(size_), static_cast<off_t>(size));
    while (error == EINTR);
    if (error)
      throw_writing(
          fmt::format("{}: the scratch file, of {} bytes, cannot grow by {} (scratch takes a folder "
                      "with more room)",
                      printable(folder_.string()), size_, size),
          error);
    void* const begin =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, static_cast<off_t>(size_));
    if (begin == MAP_FAILED)
      throw_writing(fmt::format("{}: the scratch file cannot be mapped", printable(folder_.string())), errno);
    size_ += size;
    auto* const bytes_of_part = static_cast<std::byte*>(begin);
    parts_.push_back({bytes_of_part, size,
                      add_mapped_range(bytes_of_part, size, folder_.string() + "/(scratch)", descriptor_)});
    return free_.emplace(bytes_of_part, size).first;
  }

  const std::filesystem::path folder_;
  const int descriptor_;
  mutable std::mutex mutex_;
  uint64_t size_ = 0;
  std::vector<Part> parts_;
  Places free_;
};

Shelf::Shelf(const std::filesystem::path& folder) {
  if (!folder.empty()) file_ = std::make_shared<File>(folder);
}

at::DataPtr Shelf::place_of(uint64_t bytes) {
  struct Place {
    std::shared_ptr<File> file;
    std::byte* begin;
    uint64_t bytes;
  };
  auto place = std::make_unique<Place>(Place{file_, nullptr, whole_pages(bytes)});
  auto* const begin = place->begin = file_->take(place->bytes);
  const auto leave = [](void* context) {
    const std::unique_ptr<Place> left(static_cast<Place*>(context));
    ::madvise(left->begin, left->bytes, MADV_DONTNEED);
    left->file->give_back(left->begin, left->bytes);
  };
  return {begin, place.release(), leave, at::kCPU};
}

Tensor Shelf::place_for(at::IntArrayRef sizes, at::ScalarType type) {
  const auto place = std::make_shared<at::DataPtr>(
      place_of(static_cast<uint64_t>(c10::multiply_integers(sizes)) * c10::elementSize(type)));
  return at::from_blob(
      place->get(), sizes, [place](void*) { place->clear(); }, at::TensorOptions(type));
}

Tensor Shelf::zeros(at::IntArrayRef sizes, at::ScalarType type) {
  if (!file_ || c10::multiply_integers(sizes) == 0) return at::zeros(sizes, at::TensorOptions(type));
  auto value = place_for(sizes, type).zero_();
  rest(value);
  return value;
}

Tensor Shelf::put(const Tensor& value) {
  if (!file_ || !value.defined() || value.numel() == 0) return value;
  const at::NoGradGuard no_graph;
  auto kept = place_for(value.sizes(), value.scalar_type()).copy_(value.detach());
  rest(kept);
  return kept;
}

void Shelf::rest(const Tensor& value) const {
  if (!file_ || !value.defined() || value.numel() == 0) return;
  auto* const begin = static_cast<std::byte*>(value.data_ptr());
  if (file_->holds(begin)) ::madvise(begin, whole_pages(value.nbytes()), MADV_DONTNEED);
}

Shelf::Places Shelf::hold(const std::function<void()>& work) {
  if (!file_) {
    work();
    return {};
  }
  std::map<std::byte*, uint64_t> made;  // bytes of the last one that began there
  {
    const NewTensors here(whole_pages(1), [&](size_t bytes) {
      auto place = place_of(bytes);
      made[static_cast<std::byte*>(place.get())] = whole_pages(bytes);
      return place;
    });
    work();
  }
  // What another thread has made in a place that was left since rests too, and is read from the file again.
  Places places;
  for (const auto& [begin, bytes] : made)
    if (file_->taken(begin)) places.emplace_back(begin, bytes);
  for (const auto& place : places) rest_pages(place.data(), place.size());
  return places;
}

void Shelf::expect(const Places& places) const {
  for (const auto& place : places) ::madvise(place.data(), place.size(), MADV_WILLNEED);
}

}  // namespace retort
