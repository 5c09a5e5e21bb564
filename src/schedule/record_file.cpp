#include "schedule/record_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "base/bus_error.h"
#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {
namespace {

constexpr uint64_t kPage = 4096;

int open_record(const std::filesystem::path& file, int more_flags) {
  int descriptor = -1;
  do descriptor = ::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | more_flags, 0600);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

bool is_in_its_folder(int descriptor, const std::filesystem::path& file) {
  struct ::stat open = {}, named = {};
  return ::fstat(descriptor, &open) == 0 && ::lstat(file.c_str(), &named) == 0 &&
         open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

}  // namespace

RecordFile::RecordFile(std::filesystem::path file) : file_(std::move(file)) {
  make_folder(file_.parent_path());
  // remove_records() of another process may hold it for a moment, and may then have removed it.
  constexpr int kTries = 20;
  for (int tries = 0; tries < kTries; ++tries) {
    descriptor_ = open_record(file_, O_CREAT);
    if (descriptor_ < 0) throw_writing(fmt::format("{}: cannot be made", printable(file_.string())), errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 && is_in_its_folder(descriptor_, file_)) return;
    ::close(descriptor_);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  throw Failure(fmt::format("{}: another process is in this pass; wait for it, or set another scratch folder",
                            printable(file_.string())));
}

RecordFile::~RecordFile() {
  if (data_) {
    remove_mapped_range(range_);
    ::munmap(data_, size_);
  }
  ::close(descriptor_);
}

std::byte* RecordFile::map(uint64_t size) {
  if (data_) throw std::logic_error("a record is mapped once");
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
  return data_;
}

void RecordFile::remove() {
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void rest_pages(void* begin, uint64_t bytes) {
  if (bytes > 0) ::madvise(begin, whole_pages(bytes), MADV_DONTNEED);
}

int64_t remove_records(const std::filesystem::path& folder,
                       const std::function<bool(const std::string& name)>& which) {
  int64_t removed = 0;
  std::error_code ignored;
  for (const auto& found : std::filesystem::directory_iterator(folder, ignored)) {
    if (!which(found.path().filename().string())) continue;
    const auto descriptor = open_record(found.path(), 0);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 && std::filesystem::remove(found.path(), ignored))
      ++removed;
    ::close(descriptor);
  }
  return removed;
}

}  // namespace retort
