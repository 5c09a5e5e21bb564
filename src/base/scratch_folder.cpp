#include "base/scratch_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"

namespace retort {

namespace {

// `otherwise`: what to do where it cannot be made.
std::filesystem::path make_scratch(const std::filesystem::path& parent, std::string_view beginning,
                                   std::string_view otherwise) {
  auto pattern = (parent / fmt::format("{}XXXXXX", beginning)).string();
  if (!::mkdtemp(pattern.data()))
    throw Failure(fmt::format("{}: a folder to work in cannot be made: {}{}", printable(pattern),
                              std::strerror(errno), otherwise));
  return pattern;
}

}  // namespace

ScratchFolder::ScratchFolder(const std::string& name)
    : path_(make_scratch(std::filesystem::temp_directory_path(), name + "-",
                         "; set TMPDIR to another place")) {}

ScratchFolder::ScratchFolder(const std::filesystem::path& parent, std::string_view beginning) {
  for (auto above = std::filesystem::absolute(parent).lexically_normal(); !std::filesystem::exists(above);
       above = above.parent_path())
    made_.push_back(above);
  make_folder(parent);
  path_ = make_scratch(parent, beginning, "");
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  forget_files_in(path_);
  // Fails where something else stands by now.
  for (const auto& parent : made_) std::filesystem::remove(parent, ignored);
}

}  // namespace retort
