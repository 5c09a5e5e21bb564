// Checkpoints changed by a test, with manifests that agree with the change.
#pragma once
#include <cstring>
#include <filesystem>
#include <functional>

#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"

namespace retort {

inline void rewrite_file(const std::filesystem::path& checkpoint, const std::string& file,
                         const std::string& content) {
  write_text(checkpoint / file, content);
  auto manifest = read_json(checkpoint / "manifest.json");
  manifest["files"][file] = {{"bytes", content.size()}, {"sha256", sha256(content)}};
  write_text(checkpoint / "manifest.json", manifest.dump(1));
}

inline void rewrite_state(const std::filesystem::path& checkpoint, const std::function<void(Json&)>& change) {
  auto state = read_json(checkpoint / "state.json");
  change(state);
  rewrite_file(checkpoint, "state.json", state.dump(1));
}

inline void zero_tensors(const std::filesystem::path& checkpoint, const std::string& file) {
  auto content = read_text(checkpoint / file);
  uint64_t header = 0;
  std::memcpy(&header, content.data(), sizeof header);
  std::fill(content.begin() + 8 + static_cast<std::ptrdiff_t>(header), content.end(), '\0');
  rewrite_file(checkpoint, file, content);
}

inline void flip_byte(const std::filesystem::path& file, size_t at) {
  auto content = read_text(file);
  content[at % content.size()] ^= 0x10;
  write_text(file, content);
}

}  // namespace retort
