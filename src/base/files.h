// Files from outside are mapped and read only after checks; files of ours appear whole or not at all.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

struct MappedRange;  // base/bus_error.h

// A read-only memory mapping. Throws FormatError when the file is missing or not a regular file.
// Reading past the new end of a file that somebody truncates raises SIGBUS: see base/bus_error.h.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // Throws FormatError when the file's size or modification time changed since it was opened.
  void require_unchanged() const;
  // Tells the kernel that these pages are not needed for now (they count in resident memory otherwise).
  void release(std::span<const std::byte> part) const;
  // Has these pages read from disk, and waits for them.
  void fetch(std::span<const std::byte> part) const;

 private:
  std::string name_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t modified_ns_ = 0;
  int descriptor_ = -1;
  MappedRange* range_ = nullptr;
};

// True for a name that names one file of its folder: not empty, not "." or "..", no '/', '\\' or NUL.
bool is_plain_name(std::string_view name);

// The path of `name` inside `folder`, for names that come from a file: a plain name, and when it is a link,
// one whose target stays under the folder (or, in a hub cache, ROOT/snapshots/REVISION beside ROOT/blobs,
// under ROOT). FormatError otherwise, and when the file is missing or the links form a loop.
std::filesystem::path file_beneath(const std::filesystem::path& folder, const std::string& name);

// A whole small file as text. FormatError when it is missing or larger than `limit_bytes`.
std::string read_text(const std::filesystem::path& path, size_t limit_bytes = size_t{1} << 30);

// Writes PATH so that it appears whole or not at all: a temporary file in the same folder, fsync, rename,
// fsync of the folder. Throws Failure (with errno's words) when any step fails; the temporary file is
// removed.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> data);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void skip(uint64_t bytes);  // a hole: reads as zeros and takes no disk
  uint64_t size() const { return written_; }
  void commit();

 private:
  void flush();
  void write_out(std::span<const std::byte> data);
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
  std::vector<std::byte> buffer_;
};

void write_text(const std::filesystem::path& path, std::string_view text);  // through AtomicFile

// A folder that appears whole or not at all: its files are written beneath path(), which is a folder beside
// TARGET until commit() puts it in the place of what was there. Without commit() nothing stays.
class AtomicFolder {
 public:
  explicit AtomicFolder(std::filesystem::path target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

// Takes files beneath FOLDER out of the lists of files read and written: of a folder that does not stay.
void forget_files_in(const std::filesystem::path& folder);

// Removes what killed processes left half-written inside FOLDER (names with ".part-"). Only for the one who
// holds its lock.
void remove_leftovers(const std::filesystem::path& folder);

// fsync of a folder, so that renames inside it last.
void sync_folder(const std::filesystem::path& folder);

// mkdir -p; Failure with the reason.
void make_folder(const std::filesystem::path& folder);

// Throws Failure when the file system of `folder` has less than `needed_bytes` free.
void require_space(const std::filesystem::path& folder, uint64_t needed_bytes);

// Each file that was opened for reading (through MappedFile, read_text) or written (AtomicFile) since start,
// once, in order of first use: the manifest hashes them.
std::vector<std::filesystem::path> files_read();
std::vector<std::filesystem::path> files_written();

}  // namespace retort
