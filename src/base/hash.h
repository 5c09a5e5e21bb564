// SHA-256 (OpenSSL): names content in stores, checkpoints and manifests.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace retort {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  Sha256& add(std::span<const std::byte> data);
  Sha256& add(std::string_view text) { return add(std::as_bytes(std::span(text.data(), text.size()))); }
  std::string hex();  // 64 lower-case digits; the object is spent afterwards

 private:
  void* context_;
};

std::string sha256(std::string_view text);
std::string sha256(std::span<const std::byte> data);
// Of a whole file. A file that this process hashed already is not read again while its size, place and times are what they were.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace retort
