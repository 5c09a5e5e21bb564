// Files that are read as something else than they are stored as: unpacked, or from another encoding.
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <array>
#include <memory>

#include "base/error.h"
#include "base/stop.h"
#include "data/readers.h"
#include "text/unicode.h"

namespace retort {
namespace {

constexpr size_t kMostText = size_t{1} << 30;

[[noreturn]] void too_long(std::string_view file) {
  corrupt(file, "",
          "becomes more than " + bytes(kMostText) + " of text; unpack or convert it and name that file");
}

class Inflater {
 public:
  explicit Inflater(std::string_view file) : file_(file) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw Failure("zlib cannot be started");  // + 16: gzip alone
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  std::string all(std::string_view packed) {
    std::string text;
    std::array<char, size_t{1} << 16> some;
    size_t at = 0;  // bytes of `packed` that were handed over
    int state = Z_OK;
    while (true) {
      if (stream_.avail_in == 0) {
        const auto more = packed.substr(at, size_t{1} << 20);
        at += more.size();
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(more.data()));
        stream_.avail_in = static_cast<uInt>(more.size());
      }
      if (stream_.avail_in == 0) {
        if (state != Z_STREAM_END)
          corrupt(file_, "", "ends within its packed text; is the download complete?");
        return text;
      }
      if (state == Z_STREAM_END) inflateReset(&stream_);  // several packed texts may follow one another
      stream_.next_out = reinterpret_cast<Bytef*>(some.data());
      stream_.avail_out = static_cast<uInt>(some.size());
      state = inflate(&stream_, Z_NO_FLUSH);
      if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
        corrupt(file_, "", "is no gzip file, or a damaged one");
      const auto made = some.size() - stream_.avail_out;
      if (text.size() + made > kMostText) too_long(file_);
      text.append(some.data(), made);
      leave_if_stopped("unpacking samples");
    }
  }

 private:
  std::string_view file_;
  z_stream stream_{};
};

constexpr int kLargestWindow = 27;  // 2^27 bytes: what the decoder may be made to hold

std::string unpacked_zstd(std::string_view packed, std::string_view file) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(),
                                                                          ZSTD_freeDStream);
  if (!stream || ZSTD_isError(ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, kLargestWindow)))
    throw Failure("zstd cannot be started");
  std::string text;
  std::array<char, size_t{1} << 16> some;
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  size_t left = 0;  // 0: between two packed texts
  while (in.pos < in.size || left != 0) {
    ZSTD_outBuffer out{some.data(), some.size(), 0};
    const auto before = in.pos;
    left = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(left))
      corrupt(file, "",
              ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge
                  ? "was packed with a window of more than 128 MiB; pack it again without --long"
                  : "is no zstd file, or a damaged one");
    if (text.size() + out.pos > kMostText) too_long(file);
    text.append(some.data(), out.pos);
    if (in.pos == before && out.pos == 0 && in.pos == in.size)
      corrupt(file, "", "ends within its packed text; is the download complete?");
    leave_if_stopped("unpacking samples");
  }
  return text;
}

// Bytes 0x80 to 0x9F of Windows-1252; 0: none.
constexpr uint16_t kWindows1252[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                       0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                       0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                       0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

std::string of_bytes(std::string_view content, std::string_view file, bool windows) {
  std::string text;
  text.reserve(content.size() + content.size() / 8);
  for (size_t i = 0; i < content.size(); ++i) {
    const auto byte = static_cast<unsigned char>(content[i]);
    const uint32_t c = windows && byte >= 0x80 && byte < 0xA0 ? kWindows1252[byte - 0x80] : byte;
    if (c == 0 && byte != 0)
      corrupt(file, fmt::format("byte {}", i), fmt::format("0x{:02x} is no character of cp1252", byte));
    append_utf8(text, c);
    if (text.size() > kMostText) too_long(file);
  }
  return text;
}

bool is_utf16(std::string_view content) {
  return content.starts_with("\xFF\xFE") || content.starts_with("\xFE\xFF");
}

// Little-endian where no byte order mark says otherwise.
std::string of_utf16(std::string_view content, std::string_view file) {
  const bool big = content.starts_with("\xFE\xFF");
  const size_t begin = is_utf16(content) ? 2 : 0;
  if (content.size() % 2 != 0) corrupt(file, "", "is no UTF-16: it has an odd number of bytes");
  const auto unit = [&](size_t i) -> uint32_t {
    const auto first = static_cast<unsigned char>(content[i]),
               second = static_cast<unsigned char>(content[i + 1]);
    return big ? static_cast<uint32_t>(first << 8 | second) : static_cast<uint32_t>(second << 8 | first);
  };
  std::string text;
  for (size_t i = begin; i < content.size(); i += 2) {
    auto c = unit(i);
    if (c >= 0xD800 && c < 0xE000) {
      const auto low = c < 0xDC00 && i + 3 < content.size() ? unit(i + 2) : 0;
      if (low < 0xDC00 || low >= 0xE000)
        corrupt(file, fmt::format("byte {}", i), "half a character of UTF-16");
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
      i += 2;
    }
    append_utf8(text, c);
    if (text.size() > kMostText) too_long(file);
  }
  return text;
}

// Which byte of each pair is NUL in the beginning of a text: of ASCII in UTF-16 without a mark, 1 where the
// lower byte comes first.
std::optional<size_t> nul_of_pairs(std::string_view content) {
  content = content.substr(0, 64);
  if (content.size() < 4 || content.size() % 2 != 0) return std::nullopt;
  size_t nuls[2] = {};
  for (size_t i = 0; i < content.size(); ++i) nuls[i % 2] += content[i] == '\0';
  const auto pairs = content.size() / 2;
  if (nuls[0] == 0 && nuls[1] == pairs) return 1;
  if (nuls[1] == 0 && nuls[0] == pairs) return 0;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> text_of_file(std::string_view content, std::string_view file,
                                        std::string_view encoding) {
  std::optional<std::string> text;
  if (file.ends_with(".gz")) {
    text = Inflater(file).all(content);
  } else if (file.ends_with(".zst")) {
    text = unpacked_zstd(content, file);
  }
  if (text) content = *text;
  if (encoding == "cp1252" || encoding == "latin1") return of_bytes(content, file, encoding == "cp1252");
  if (encoding == "utf-16") return of_utf16(content, file);
  if (text) require_plain_text(*text, file);
  return text;
}

void require_plain_text(std::string_view content, std::string_view file) {
  if (is_utf16(content))
    corrupt(file, "", "is written in UTF-16; set encoding: utf-16 of its source, or convert it to UTF-8");
  if (const auto first = nul_of_pairs(content))
    corrupt(file, "",
            fmt::format("every second byte is NUL: it looks like UTF-16; {}",
                        *first == 1 ? "set encoding: utf-16 of its source, or convert it to UTF-8"
                                    : "convert it to UTF-8"));
  constexpr std::pair<std::string_view, const char*> kOthers[] = {
      {"\x1f\x8b", "is packed by gzip; name it with .gz behind its ending, or unpack it"},
      {"\x28\xb5\x2f\xfd", "is packed by zstd; name it with .zst behind its ending, or unpack it"},
      {"PK\x03\x04", "is a zip archive; unpack it and name the file that is meant"},
      {"PAR1", "is a Parquet file; name it with .parquet as its ending, or set format: parquet"},
      {"ARROW1", "is an Arrow file; name it with .arrow as its ending, or set format: arrow"},
  };
  for (const auto& [begin, what] : kOthers)
    if (content.starts_with(begin)) corrupt(file, "", what);
}

}  // namespace retort
