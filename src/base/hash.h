// SHA-256 (OpenSSL): names content in stores, checkpoints and manifests.
#pragma once
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
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
  std::array<uint8_t, 32> digest();  // the object is spent afterwards
  std::string hex();                 // the same as 64 lower-case digits

 private:
  void* context_;
};

// The first half of a digest: equal for equal content, and small enough to keep one for each of many records.
struct ContentKey {
  uint64_t high = 0, low = 0;  // bytes 0 to 7 and 8 to 15, big-endian
  auto operator<=>(const ContentKey&) const = default;
};
ContentKey content_key(Sha256& hash);

std::string sha256(std::string_view text);
std::string sha256(std::span<const std::byte> data);
// Of a whole file. A file that this process hashed already is not read again while its size, place and times
// are what they were.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace retort
