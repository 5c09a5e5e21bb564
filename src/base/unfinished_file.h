// A file that is written by somebody else's code and appears whole or not at all, as with AtomicFile
// (base/files.h).
#pragma once
#include <filesystem>
#include <string_view>

namespace retort {

// Whether a name is what AtomicFile, AtomicFolder and UnfinishedFile give to what they have not finished: it
// ends with ".part-" and the number of a process. A user's "train.part-0001.jsonl" is not.
bool is_unfinished(std::string_view name);

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
