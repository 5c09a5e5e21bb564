#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "base/bus_error.h"
#include "base/error.h"
#include "base/system_failure.h"
#include "base/unfinished_file.h"

namespace retort {
namespace {

// open(2), again where a signal came before the file (of a server) was there.
int open_again(const std::filesystem::path& path, int flags, mode_t mode = 0) {
  int descriptor = -1;
  do descriptor = ::open(path.c_str(), flags, mode);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// The record of files behind files_read() and files_written().
struct FileList {
  std::vector<std::filesystem::path> files;  // in order of first use
  std::unordered_set<std::string> seen;
};
struct Record {
  std::mutex mutex;
  FileList read, written;
};
Record& record() {
  static Record the_record;
  return the_record;
}
void note(FileList Record::*list, const std::filesystem::path& path) {
  const auto absolute = std::filesystem::absolute(path).lexically_normal();
  std::lock_guard lock(record().mutex);
  auto& [files, seen] = record().*list;
  if (seen.insert(absolute.string()).second) files.push_back(absolute);
}

// Files of one of the two lists that lie beneath `folder` are none of the process's any more.
void forget(FileList& list, const std::string& folder) {
  std::erase_if(list.files, [&](const std::filesystem::path& file) {
    const bool inside = file.string().starts_with(folder);
    if (inside) list.seen.erase(file.string());
    return inside;
  });
}

// Files written beneath `from` are at the same place beneath `to` now.
void note_moved(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto before = std::filesystem::absolute(from).lexically_normal().string() + "/";
  std::lock_guard lock(record().mutex);
  auto& [files, seen] = record().written;
  for (auto& file : files) {
    const auto text = file.string();
    if (!text.starts_with(before)) continue;
    seen.erase(text);
    file = std::filesystem::absolute(to).lexically_normal() / text.substr(before.size());
    seen.insert(file.string());
  }
}

int64_t modified_ns(const struct stat& status) {
  return status.st_mtim.tv_sec * 1'000'000'000ll + status.st_mtim.tv_nsec;
}

}  // namespace

void forget_files_in(const std::filesystem::path& folder) {
  const auto beneath = std::filesystem::absolute(folder).lexically_normal().string() + "/";
  std::lock_guard lock(record().mutex);
  forget(record().read, beneath);
  forget(record().written, beneath);
}

MappedFile::MappedFile(const std::filesystem::path& path) : name_(path.string()) {
  descriptor_ = open_again(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw_reading(printable(name_) + ": cannot be opened", errno);
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    ::close(descriptor_);
    throw_reading(printable(name_) + ": cannot be looked at", error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    corrupt(name_, "", S_ISDIR(status.st_mode) ? "is a folder; expected a file" : "is not a regular file");
  }
  size_ = static_cast<size_t>(status.st_size);
  modified_ns_ = modified_ns(status);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (mapped == MAP_FAILED) {
      const int error = errno;
      ::close(descriptor_);
      throw_writing(printable(name_) + ": cannot be mapped", error);
    }
    data_ = static_cast<const std::byte*>(mapped);
    range_ = add_mapped_range(data_, size_, name_, descriptor_);
  }
  note(&Record::read, path);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      modified_ns_(other.modified_ns_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      range_(std::exchange(other.range_, nullptr)) {}

MappedFile::~MappedFile() {
  if (range_) remove_mapped_range(range_);
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MappedFile::require_unchanged() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) throw_reading(printable(name_) + ": cannot be looked at", errno);
  if (static_cast<size_t>(status.st_size) != size_ || modified_ns(status) != modified_ns_)
    corrupt(name_, "", "changed while it was being read; start again when nothing writes to it");
}

void MappedFile::release(std::span<const std::byte> part) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void MappedFile::fetch(std::span<const std::byte> part) const {
  if (part.empty()) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(part.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(part.data() + part.size());
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);  // one wait for all of them
  for (auto at = std::max(begin, reinterpret_cast<uintptr_t>(data_)); at < end; at += page)
    static_cast<void>(*reinterpret_cast<const volatile std::byte*>(at));
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

std::filesystem::path file_beneath(const std::filesystem::path& folder, const std::string& name) {
  if (!is_plain_name(name)) corrupt(folder.string(), name, "is not a plain file name");
  std::error_code error;
  auto root = std::filesystem::canonical(folder.empty() ? "." : folder, error);
  if (error) throw_reading(printable(folder.string()) + ": cannot be opened", error.value());
  const auto target = std::filesystem::canonical(root / name, error);
  if (error) throw_reading(printable((folder / name).string()) + ": cannot be opened", error.value());
  if (root.parent_path().filename() == "snapshots" &&
      std::filesystem::is_directory(root.parent_path().parent_path() / "blobs", error))
    root = root.parent_path().parent_path();
  if (std::mismatch(root.begin(), root.end(), target.begin(), target.end()).first != root.end())
    corrupt((folder / name).string(), "",
            "is a link to a file outside the model's folder; copy the file into it");
  return folder / name;
}

std::string read_text(const std::filesystem::path& path, size_t limit_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > limit_bytes)
    corrupt(file.name(), "",
            "is " + bytes(file.bytes().size()) + "; at most " + bytes(limit_bytes) + " are read");
  return std::string(file.text());
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  if (path_.has_parent_path()) make_folder(path_.parent_path());
  temporary_ = path_;
  temporary_ += ".part-" + std::to_string(::getpid());
  descriptor_ = open_again(temporary_, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) throw_writing(path_.string() + ": cannot be written", errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> data) {
  constexpr size_t kBuffer = size_t{1} << 20;
  written_ += data.size();
  if (buffer_.size() + data.size() > kBuffer) flush();
  if (data.size() > kBuffer) return write_out(data);
  buffer_.insert(buffer_.end(), data.begin(), data.end());
}

void AtomicFile::skip(uint64_t bytes) {
  flush();
  written_ += bytes;
  const auto end = static_cast<off_t>(written_);
  if (::ftruncate(descriptor_, end) != 0 || ::lseek(descriptor_, end, SEEK_SET) != end)
    throw_writing(path_.string() + ": cannot be made " + std::to_string(written_) + " bytes long", errno);
}

void AtomicFile::write_out(std::span<const std::byte> data) {
  while (!data.empty()) {
    const auto wrote = ::write(descriptor_, data.data(), data.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) throw_writing(path_.string() + ": write failed", errno);
    data = data.subspan(static_cast<size_t>(wrote));
  }
}

void AtomicFile::flush() {
  write_out(buffer_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) throw_writing(path_.string() + ": fsync failed", errno);
  const int descriptor = std::exchange(descriptor_, -1);
  const bool closed = ::close(descriptor) == 0;
  if (!closed || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    throw_writing(path_.string() + (closed ? ": rename failed" : ": close failed"), error);
  }
  sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
  note(&Record::written, path_);
}

bool is_unfinished(std::string_view name) {
  constexpr std::string_view mark = ".part-";
  const auto at = name.rfind(mark);
  if (at == name.npos || at == 0) return false;
  const auto number = name.substr(at + mark.size());
  return !number.empty() && number.find_first_not_of("0123456789") == number.npos;
}

namespace {

void remove_parts_of(const std::filesystem::path& target) {
  const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  const auto prefix = target.filename().string() + ".part-";  // and a number: is_unfinished()
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !is_unfinished(name) || !entry.is_regular_file(error)) continue;
    const int descriptor = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
    ::close(descriptor);
  }
}

}  // namespace

UnfinishedFile::UnfinishedFile(std::filesystem::path target)
    : target_(std::move(target)), temporary_(target_) {
  if (target_.has_parent_path()) make_folder(target_.parent_path());
  remove_parts_of(target_);
  temporary_ += ".part-" + std::to_string(::getpid());
  descriptor_ = open_again(temporary_, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) throw_writing(target_.string() + ": cannot be written", errno);
  // Where the file system knows no locks, another writer may take this for a leftover.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(std::exchange(descriptor_, -1));
    throw Failure(target_.string() + ": another process is writing it");
  }
  if (::ftruncate(descriptor_, 0) != 0) throw_writing(target_.string() + ": cannot be written", errno);
}

UnfinishedFile::~UnfinishedFile() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void UnfinishedFile::commit() {
  if (::fsync(descriptor_) != 0) throw_writing(target_.string() + ": fsync failed", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    throw_writing(target_.string() + ": rename failed", errno);
  ::close(std::exchange(descriptor_, -1));
  sync_folder(target_.has_parent_path() ? target_.parent_path() : ".");
  note(&Record::written, target_);
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

AtomicFolder::AtomicFolder(std::filesystem::path target) : target_(std::move(target)) {
  temporary_ = target_;
  temporary_ += ".part-" + std::to_string(::getpid());
  std::error_code error;
  std::filesystem::remove_all(temporary_, error);
  make_folder(temporary_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code error;
  if (!committed_) std::filesystem::remove_all(temporary_, error);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  std::error_code error;
  auto old = target_;
  old += ".old.part-" + std::to_string(::getpid());
  const bool replaces = std::filesystem::exists(std::filesystem::symlink_status(target_, error));
  error.clear();  // a target that is missing is none
  if (replaces) std::filesystem::rename(target_, old, error);
  if (!error) std::filesystem::rename(temporary_, target_, error);
  if (error) throw_writing(target_.string() + ": cannot be put in place", error.value());
  committed_ = true;
  note_moved(temporary_, target_);
  sync_folder(target_.has_parent_path() ? target_.parent_path() : ".");
  if (replaces) std::filesystem::remove_all(old, error);
}

void remove_leftovers(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    if (!is_unfinished(entry->path().filename().string())) continue;
    found.push_back(entry->path());
    if (entry->is_directory()) entry.disable_recursion_pending();
  }
  for (const auto& path : found) std::filesystem::remove_all(path, error);
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = open_again(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_writing(folder.string() + ": cannot be opened", errno);
  const bool synced = ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  if (!synced) throw_writing(folder.string() + ": fsync failed", error);
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_writing(folder.string() + ": cannot be made", error.value());
}

void require_space(const std::filesystem::path& folder, uint64_t needed_bytes) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) throw_writing(folder.string() + ": free space unknown", errno);
  const uint64_t free_bytes = static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  if (free_bytes < needed_bytes)
    throw PassingFailure(folder.string() + ": " + bytes(free_bytes) + " free, " + bytes(needed_bytes) +
                         " needed; free some space and start again");
}

std::vector<std::filesystem::path> files_read() {
  std::lock_guard lock(record().mutex);
  return record().read.files;
}

std::vector<std::filesystem::path> files_written() {
  std::lock_guard lock(record().mutex);
  return record().written.files;
}

}  // namespace retort
