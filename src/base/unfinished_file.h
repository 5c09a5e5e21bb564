// A file that is written by somebody else's code and appears whole or not at all, as with AtomicFile
// (base/files.h).
#pragma once
#include <filesystem>

namespace retort {

class UnfinishedFile {
 public:
  // Makes an empty file beside TARGET, and removes what killed processes left of the same target. Failure
  // with errno's words.
  explicit UnfinishedFile(std::filesystem::path target);
  ~UnfinishedFile();  // without commit() nothing stays
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  const std::filesystem::path& path() const { return temporary_; }  // to write to
  void commit();  // fsync, rename, fsync of the folder; nobody may write to it any more

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;  // holds a lock: a file without one is a leftover
};

}  // namespace retort
