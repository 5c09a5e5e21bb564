#include "schedule/pass_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "base/bus_error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/system_failure.h"

namespace retort {
namespace {

constexpr uint64_t kPage = 4096;
constexpr std::string_view kBegin = "retort-states-", kEnd = ".bin";

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

bool is_record(const std::string& name) { return name.starts_with(kBegin) && name.ends_with(kEnd); }

int open_record(const std::filesystem::path& file, int more_flags) {
  int descriptor = -1;
  do descriptor = ::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | more_flags, 0600);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// Another recipe's, or one of other samples: nobody would ever go on with it.
void remove_others(const std::filesystem::path& folder, const std::filesystem::path& own) {
  std::error_code ignored;
  for (const auto& found : std::filesystem::directory_iterator(folder, ignored)) {
    if (found.path() == own || !is_record(found.path().filename().string())) continue;
    const auto descriptor = open_record(found.path(), 0);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) std::filesystem::remove(found.path(), ignored);
    ::close(descriptor);
  }
}

}  // namespace

// Of one of a text's two places. `layers` is written last: what it stands for is whole then.
struct PassRecord::Entry {
  std::atomic<int64_t> layers;  // plus one; 0: nothing is there
  int64_t rows;
  ContentKey hash;
};

PassRecord::PassRecord(const std::filesystem::path& folder, std::string_view identity) {
  make_folder(folder);
  file_ = folder / fmt::format("{}{}{}", kBegin, sha256(identity).substr(0, 16), kEnd);
  remove_others(folder, file_);
  descriptor_ = open_record(file_, O_CREAT);
  if (descriptor_ < 0) throw_writing(fmt::format("{}: cannot be made", printable(file_.string())), errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    throw Failure(
        fmt::format("{}: another process is in this pass; wait for it, or set another scratch folder",
                    printable(file_.string())));
  }
}

PassRecord::~PassRecord() {
  if (data_) {
    remove_mapped_range(range_);
    ::munmap(data_, size_);
  }
  ::close(descriptor_);
}

void PassRecord::map(uint64_t size) {
  struct ::stat status = {};
  const bool same = ::fstat(descriptor_, &status) == 0 && static_cast<uint64_t>(status.st_size) == size;
  int error = 0;
  if (!same && ::ftruncate(descriptor_, 0) != 0) error = errno;
  if (!error) error = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(size));
  if (error) {
    remove();
    throw_writing(
        fmt::format("{}: {} bytes for texts between two layers cannot be had (scratch takes a folder "
                    "with more room)",
                    printable(file_.string()), size),
        error);
  }
  void* const begin = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
  if (begin == MAP_FAILED)
    throw_writing(fmt::format("{}: cannot be mapped", printable(file_.string())), errno);
  data_ = static_cast<std::byte*>(begin);
  size_ = size;
  range_ = add_mapped_range(data_, size_, file_.string(), descriptor_);
}

void PassRecord::begin(const std::vector<int64_t>& rows, int64_t width, at::ScalarType type) {
  if (data_) throw std::logic_error("a pass record begins once");
  width_ = width, type_ = type;
  uint64_t at = whole_pages(rows.size() * 2 * sizeof(Entry));
  for (const auto count : rows) {
    begins_.push_back(at);
    at += 2 * whole_pages(static_cast<uint64_t>(count * width) * c10::elementSize(type));
  }
  begins_.push_back(at);
  map(at);
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
      ::madvise(place(text, layers), whole_pages(state.nbytes()), MADV_DONTNEED);
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
  ::madvise(kept.data_ptr(), whole_pages(kept.nbytes()), MADV_DONTNEED);
  if (done_[text] >= 0 && layers % 2 != done_[text] % 2)
    ::madvise(place(text, done_[text]), whole_pages(kept.nbytes()), MADV_DONTNEED);
  done_[text] = layers;
  return kept;
}

void PassRecord::remove() {
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

}  // namespace retort
