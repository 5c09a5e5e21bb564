#include "report/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {

namespace {

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

// Protobuf wire format: a key is (field number << 3) | wire type.
void varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

template <class T> void fixed(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void message(std::string& out, int field, std::string_view content) {
  varint(out, static_cast<uint64_t>(field) << 3 | 2);
  varint(out, content.size());
  out += content;
}

// Event: wall_time = 1 (double), step = 2 (int64).
std::string event_head(int64_t step, double wall_time) {
  std::string event;
  varint(event, 1 << 3 | 1);
  fixed(event, wall_time);
  varint(event, 2 << 3 | 0);
  varint(event, static_cast<uint64_t>(step));
  return event;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : data) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view data) { return std::rotr(crc32c(data), 15) + 0xA282EAD8u; }

std::string framed(std::string_view message_bytes) {
  std::string length, record;
  fixed(length, static_cast<uint64_t>(message_bytes.size()));
  record = length;
  fixed(record, masked_crc32c(length));
  record += message_bytes;
  fixed(record, masked_crc32c(message_bytes));
  return record;
}

std::string scalar_event(int64_t step, const Scalars& scalars, double wall_time) {
  std::string summary;  // Summary: value = 1; Value: tag = 1, simple_value = 2 (float)
  for (const auto& [tag, number] : scalars) {
    std::string value;
    message(value, 1, tag);
    varint(value, 2 << 3 | 5);
    fixed(value, static_cast<float>(number));
    message(summary, 1, value);
  }
  auto event = event_head(step, wall_time);
  message(event, 5, summary);
  return event;
}

EventFile::EventFile(const std::filesystem::path& folder, int64_t first_step, double wall_time) {
  make_folder(folder);
  auto stamp = static_cast<int64_t>(wall_time);
  do {  // a run that is resumed within the same second gets a later name
    path_ = folder / fmt::format("events.out.tfevents.{}.retort", stamp++);
    descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) throw_writing(path_.string(), errno);
  auto version = event_head(0, wall_time);
  message(version, 3, "brain.Event:2");  // file_version = 3
  record(version);
  if (first_step > 0) {
    auto start = event_head(first_step, wall_time);
    message(start, 7, std::string("\x08\x01", 2));  // session_log = 7 {status = 1: START}
    record(start);
  }
}

EventFile::~EventFile() { close(descriptor_); }

void EventFile::add(int64_t step, const Scalars& scalars, double wall_time) {
  record(scalar_event(step, scalars, wall_time));
}

void EventFile::record(const std::string& event) {
  const auto bytes_out = framed(event);
  const auto before = lseek(descriptor_, 0, SEEK_CUR);
  for (size_t done = 0; done < bytes_out.size();) {
    const auto count = write(descriptor_, bytes_out.data() + done, bytes_out.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {  // a reader stops at half a record
      const int reason = errno;
      if (ftruncate(descriptor_, before) == 0) lseek(descriptor_, before, SEEK_SET);
      throw_writing(path_.string(), reason);
    }
    done += static_cast<size_t>(count);
  }
}

}  // namespace retort
