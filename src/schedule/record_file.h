// A file of a scratch folder that outlives the process: mapped, and at work in one process at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace retort {

struct MappedRange;

class RecordFile {
 public:
  // Makes it, and its folder, where they are missing. Failure where another process works on it.
  explicit RecordFile(std::filesystem::path file);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  // Called once. A file of this size keeps what it holds, any other becomes zeros. The disk for all of it is
  // taken at once: PassingFailure where it is full, and nothing of the file stays.
  std::byte* map(uint64_t size);
  // The folder has it no longer; what is mapped stays as long as this object.
  void remove();

 private:
  const std::filesystem::path file_;
  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  MappedRange* range_ = nullptr;
};

uint64_t whole_pages(uint64_t bytes);
// Pages of a mapped file leave the process until somebody looks at them; `begin` is that of a page.
void rest_pages(void* begin, uint64_t bytes);
// Removes the files of these names that no process works on, and says how many.
int64_t remove_records(const std::filesystem::path& folder,
                       const std::function<bool(const std::string& name)>& which);

}  // namespace retort
