// Weight files made byte by byte, so that a test can say exactly what is wrong with one.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "base/files.h"
#include "formats/parse.h"

namespace retort {

// A folder of its own for each test, removed afterwards.
struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path = std::filesystem::temp_directory_path() /
           fmt::format("retort-{}-{}.{}", getpid(), test->test_suite_name(), test->name());
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path put(const std::string& name, std::string_view content) const {
    write_text(path / name, content);
    return path / name;
  }
};

inline std::span<const std::byte> as_bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

template <class Number> std::string le(Number value) {
  static_assert(std::is_arithmetic_v<Number>);
  std::string bytes(sizeof(Number), '\0');
  std::memcpy(bytes.data(), &value, sizeof(Number));
  return bytes;
}

// A safetensors file with this header and so many bytes of data.
inline std::string safetensors_bytes(std::string_view header, size_t data_bytes) {
  std::string file = le(static_cast<uint64_t>(header.size()));
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

inline std::string gguf_text(std::string_view text) {
  return le(static_cast<uint64_t>(text.size())) + std::string(text);
}
inline std::string gguf_pair(std::string_view key, uint32_t type, const std::string& value) {
  return gguf_text(key) + le(type) + value;
}
inline std::string gguf_info(std::string_view name, const std::vector<int64_t>& ne, int32_t type,
                             uint64_t offset) {
  std::string info = gguf_text(name) + le(static_cast<uint32_t>(ne.size()));
  for (const auto dim : ne) info += le(dim);
  return info + le(type) + le(offset);
}

// A GGUF file from its parts; data are padded in front to `alignment`.
struct MadeGguf {
  std::vector<std::string> pairs = {}, infos = {};
  size_t data_bytes = 0;
  uint64_t alignment = 32;
  uint32_t version = 3;
  std::string bytes() const {
    std::string file = "GGUF" + le(version) + le(static_cast<uint64_t>(infos.size())) +
                       le(static_cast<uint64_t>(pairs.size()));
    for (const auto& pair : pairs) file += pair;
    for (const auto& info : infos) file += info;
    if (!infos.empty()) file.append((alignment - file.size() % alignment) % alignment, '\0');
    for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
    return file;
  }
};

// The message of the FormatError that `run` throws; "" (and a failure) when it throws none.
template <class Run> std::string format_error(Run&& run) {
  try {
    run();
  } catch (const FormatError& error) { return error.what(); }
  ADD_FAILURE() << "accepted";
  return "";
}

inline std::string safetensors_error(std::string_view file) {
  return format_error([&] { parse_safetensors(as_bytes_of(file), "made.safetensors"); });
}
inline std::string gguf_error(std::string_view file) {
  return format_error([&] { parse_gguf(as_bytes_of(file), "made.gguf"); });
}

// EXPECT that a message says something, and show it when it does not.
inline testing::AssertionResult says(const std::string& message, std::string_view part) {
  if (message.find(part) != message.npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << message << "' does not say '" << part << "'";
}

}  // namespace retort
