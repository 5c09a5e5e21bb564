// `retort inspect`: what is in a weight file, a model folder or an adapter folder, as text or JSON.
#pragma once
#include <filesystem>
#include <string>

namespace retort {

enum class InspectHashes { none, files, files_and_tensors };

struct InspectOptions {
  bool json = false;
  InspectHashes hashes = InspectHashes::files;  // SHA-256; reads all bytes
  size_t longest_value = 72;                    // text: metadata values are cut to so many bytes
  size_t most_elements = 8;                     // array elements that are shown, in text and JSON
};

// Throws FormatError as open_weights does.
std::string inspect(const std::filesystem::path& path, const InspectOptions& options = {});

}  // namespace retort
