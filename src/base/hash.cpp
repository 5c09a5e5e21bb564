#include "base/hash.h"

// The function itself: OpenSSL's EVP reads configuration files and, where it is linked statically, brings
// code that opens connections.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <fmt/format.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "base/files.h"
#include "base/profile.h"

namespace retort {

namespace {

// What identifies the content of a file for one process: our own files are replaced by rename, which changes
// the inode.
using FileState = std::tuple<dev_t, ino_t, off_t, time_t, long, time_t, long>;

std::optional<FileState> state_of(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileState{status.st_dev,         status.st_ino,          status.st_size,
                   status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
                   status.st_ctim.tv_nsec};
}

struct KnownHashes {
  std::mutex mutex;
  std::map<FileState, std::string> hashes;
};
KnownHashes& known() {
  static KnownHashes the_known;
  return the_known;
}

}  // namespace

Sha256::Sha256() : context_(new SHA256_CTX) { SHA256_Init(static_cast<SHA256_CTX*>(context_)); }
Sha256::~Sha256() { delete static_cast<SHA256_CTX*>(context_); }

Sha256& Sha256::add(std::span<const std::byte> data) {
  SHA256_Update(static_cast<SHA256_CTX*>(context_), data.data(), data.size());
  return *this;
}

std::array<uint8_t, 32> Sha256::digest() {
  std::array<uint8_t, 32> all = {};
  SHA256_Final(all.data(), static_cast<SHA256_CTX*>(context_));
  return all;
}

std::string Sha256::hex() {
  std::string text;
  for (const auto byte : digest()) text += fmt::format("{:02x}", byte);
  return text;
}

ContentKey content_key(Sha256& hash) {
  ContentKey key;
  const auto all = hash.digest();
  for (size_t i = 0; i < 8; ++i) key.high = key.high << 8 | all[i], key.low = key.low << 8 | all[8 + i];
  return key;
}

std::string sha256(std::string_view text) { return Sha256().add(text).hex(); }
std::string sha256(std::span<const std::byte> data) { return Sha256().add(data).hex(); }

std::string sha256_file(const std::filesystem::path& path) {
  const auto before = state_of(path);
  if (before) {
    std::lock_guard lock(known().mutex);
    if (const auto found = known().hashes.find(*before); found != known().hashes.end()) return found->second;
  }
  const Span span({"hashes of files", "stage"});
  const MappedFile file(path);
  Sha256 sum;
  for (auto rest = file.bytes();
       !rest.empty();) {  // pages that were read would count as this process's memory
    constexpr size_t kPiece = size_t{4} << 20;
    const auto piece = rest.first(std::min(rest.size(), kPiece));
    sum.add(piece);
    file.release(piece);
    rest = rest.subspan(piece.size());
  }
  const auto hash = sum.hex();
  if (before && state_of(path) == before) {
    std::lock_guard lock(known().mutex);
    known().hashes.emplace(*before, hash);
  }
  return hash;
}

}  // namespace retort
