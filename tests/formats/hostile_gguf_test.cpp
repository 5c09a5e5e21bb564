// Hostile GGUF files: each names what is wrong with it, and nothing is allocated or read on its word.
#include <gtest/gtest.h>

#include "formats/made_files.h"

namespace retort {
namespace {

constexpr int32_t kF32 = 0, kQ4K = 12;
constexpr uint32_t kU32 = 4, kBool = 7, kString = 8, kArray = 9;

std::string with_pair(const std::string& pair) { return MadeGguf{.pairs = {pair}}.bytes(); }
std::string with_info(const std::string& info, size_t data_bytes = 64) {
  return MadeGguf{.infos = {info}, .data_bytes = data_bytes}.bytes();
}

}  // namespace

TEST(HostileGguf, TheMinimalFileItIsMadeFromIsAccepted) {
  const auto file =
      MadeGguf{
          .pairs = {gguf_pair("k", kU32, le(7u))}, .infos = {gguf_info("t", {8}, kF32, 0)}, .data_bytes = 32}
          .bytes();
  const auto parsed = parse_gguf(as_bytes_of(file), "made.gguf");
  ASSERT_EQ(parsed.tensors.size(), 1u);
  EXPECT_EQ(parsed.tensors[0].end, file.size());
  EXPECT_EQ(std::get<uint32_t>(parsed.gguf_metadata[0].second), 7u);
}

TEST(HostileGguf, EveryTruncationIsNoticed) {
  const auto file = MadeGguf{.pairs = {gguf_pair("key", kString, gguf_text("value"))},
                             .infos = {gguf_info("t", {2, 4}, kF32, 0)},
                             .data_bytes = 32}
                        .bytes();
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_THROW(parse_gguf(as_bytes_of(std::string_view(file).substr(0, length)), "cut.gguf"), FormatError)
        << length;
}

TEST(HostileGguf, WrongMagicAndVersions) {
  EXPECT_TRUE(says(gguf_error("GGUX" + std::string(20, '\0')), "magic"));
  EXPECT_TRUE(says(gguf_error(MadeGguf{.version = 2}.bytes()), "GGUF version 2; only version 3"));
  EXPECT_TRUE(says(gguf_error(MadeGguf{.version = 0x03000000}.bytes()), "big-endian"));
}

TEST(HostileGguf, CountsAreProvenBeforeTheyAreReserved) {
  for (const uint64_t count : {uint64_t{1} << 60, uint64_t{1} << 63, ~uint64_t{0}, uint64_t{100}}) {
    EXPECT_TRUE(says(gguf_error("GGUF" + le(3u) + le(count) + le(uint64_t{0}) + std::string(36, '\0')),
                     "tensor infos need at least"));
    EXPECT_TRUE(says(gguf_error("GGUF" + le(3u) + le(uint64_t{0}) + le(count) + std::string(36, '\0')),
                     "metadata values need at least"));
    EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", kArray, le(kU32) + le(count)))),
                     "array elements need at least"));
    EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", kArray, le(kString) + le(count)))),
                     "array elements need at least"));
    EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", kString, le(count)))), "a string needs"));
  }
}

TEST(HostileGguf, ShapesWhoseProductWraps) {
  constexpr int64_t k2to32 = int64_t{1} << 32;
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {k2to32, k2to32}, kF32, 0))),
                   "made.gguf: t: shape [4294967296, 4294967296] overflows 64 bits"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {211106198978564, 4194305, 4194305}, kF32, 0))),
                   "overflows 64 bits"));
  EXPECT_TRUE(
      says(gguf_error(with_info(gguf_info("t", {1, 1, 2, INT64_MAX}, kF32, 0))), "overflows 64 bits"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {INT64_MAX}, kF32, 0))), "64 bits"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {INT64_MAX}, 24, 0))),
                   "its data"));  // i8: the padded end, or the file, ends before
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {k2to32, k2to32, 0}, kF32, 0))),
                   "overflows 64 bits"));  // a zero hides nothing
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {-1}, kF32, 0))), "dimension 0 is -1"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {1, 1, 1, 1, 1}, kF32, 0))), "5 dimensions"));
}

TEST(HostileGguf, OffsetsNearTheTopOfTheRange) {
  for (const uint64_t offset : {~uint64_t{0}, ~uint64_t{0} - 3, uint64_t{1} << 63, ~uint64_t{0} - 31})
    EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {8}, kF32, offset))), "expected 0"));
  uint64_t aligned = 0;
  EXPECT_FALSE(align_up(~uint64_t{0} - 3, 32, aligned));  // (x + n - 1) & ~(n - 1) would be 0
}

TEST(HostileGguf, AlignmentThatIsNone) {
  const auto with_alignment = [](uint32_t type, const std::string& value) {
    return gguf_error(with_pair(gguf_pair("general.alignment", type, value)));
  };
  for (const uint32_t alignment : {0u, 1u, 4u, 24u, 131072u, 0x80000000u})
    EXPECT_TRUE(says(with_alignment(kU32, le(alignment)), "power of two from 8 to 65536")) << alignment;
  EXPECT_TRUE(says(with_alignment(kString, gguf_text("32")), "expected a 32-bit unsigned number"));
  EXPECT_TRUE(says(with_alignment(10, le(uint64_t{32})), "expected a 32-bit unsigned number"));
  const auto file = MadeGguf{.pairs = {gguf_pair("general.alignment", kU32, le(4096u))},
                             .infos = {gguf_info("t", {1}, kF32, 0)},
                             .data_bytes = 4,
                             .alignment = 4096}
                        .bytes();
  EXPECT_EQ(parse_gguf(as_bytes_of(file), "x").tensors[0].begin, 4096u);
}

TEST(HostileGguf, DataThatOverlapLeaveGapsOrLieOutside) {
  const auto two = [](uint64_t first, uint64_t second, size_t data_bytes) {
    return MadeGguf{.infos = {gguf_info("a", {4}, kF32, first), gguf_info("b", {4}, kF32, second)},
                    .data_bytes = data_bytes}
        .bytes();
  };
  EXPECT_EQ(parse_gguf(as_bytes_of(two(0, 32, 48)), "x").tensors.size(), 2u);
  EXPECT_TRUE(
      says(gguf_error(two(0, 0, 48)), "made.gguf: b: its data begin at offset 0; expected 32"));  // overlap
  EXPECT_TRUE(says(gguf_error(two(0, 64, 96)), "b: its data begin at offset 64; expected 32"));   // gap
  EXPECT_TRUE(says(gguf_error(two(32, 0, 48)), "a: its data begin at offset 32; expected 0"));    // swapped
  EXPECT_TRUE(says(gguf_error(two(0, 16, 48)), "expected 32"));                      // not aligned
  EXPECT_TRUE(says(gguf_error(two(0, 32, 47)), "is the download complete?"));        // truncated
  EXPECT_TRUE(says(gguf_error(two(0, 32, 65)), "17 bytes follow the last tensor"));  // trailing bytes
}

TEST(HostileGguf, TypesThatAreUnknownRemovedOrDoNotFit) {
  EXPECT_TRUE(
      says(gguf_error(with_info(gguf_info("t", {255}, kQ4K, 0), 144)), "a row must be a multiple of 256"));
  for (const int32_t type : {-1, 4, 5, 31, 36, 255, INT32_MAX, INT32_MIN})
    EXPECT_TRUE(says(gguf_error(with_info(gguf_info("t", {256}, type, 0), 144)),
                     "is unknown, removed or not supported"))
        << type;
}

TEST(HostileGguf, NamesTwiceEmptyLongOrBroken) {
  const auto a = gguf_info("a", {4}, kF32, 0), again = gguf_info("a", {4}, kF32, 32);
  EXPECT_TRUE(says(gguf_error(MadeGguf{.infos = {a, again}, .data_bytes = 48}.bytes()),
                   "made.gguf: a: this tensor stands twice"));
  EXPECT_TRUE(says(
      gguf_error(MadeGguf{.pairs = {gguf_pair("k", kU32, le(1u)), gguf_pair("k", kU32, le(2u))}}.bytes()),
      "made.gguf: k: this metadata key stands twice"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info(std::string(64, 'n'), {4}, kF32, 0))),
                   "64 bytes; expected 1 to 63"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info("", {4}, kF32, 0))), "0 bytes; expected 1 to 63"));
  EXPECT_TRUE(says(gguf_error(with_info(gguf_info(std::string("a\0b", 3), {4}, kF32, 0))), "holds a NUL"));
  EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair(std::string(65536, 'k'), kU32, le(1u)))),
                   "65536 bytes; expected 1 to 65535"));
  const auto escaped = gguf_error(
      with_info(gguf_info("\x1b[31m\n", {255}, kQ4K, 0), 144));  // terminals are not ours to command
  EXPECT_TRUE(says(escaped, "\\x1b[31m\\x0a"));
  EXPECT_EQ(escaped.find('\n'), escaped.npos);
}

TEST(HostileGguf, ValuesOfNoKnownKind) {
  EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", 13, le(1u)))), "value type 13 is unknown"));
  EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", ~0u, le(1u)))), "is unknown"));
  EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", kBool, "\2"))), "truth value 2"));
  EXPECT_TRUE(says(gguf_error(with_pair(gguf_pair("k", kArray, le(77u) + le(uint64_t{0})))),
                   "array element type 77"));
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += le(kArray) + le(uint64_t{1});  // arrays of arrays of ...
  EXPECT_TRUE(
      says(gguf_error(with_pair(gguf_pair("k", kArray, nested))), "arrays of arrays are not supported"));
}

TEST(HostileGguf, ArchivesAndPicklesUnderItsName) {
  TemporaryFolder folder;
  for (const auto& magic :
       {std::string("PK\x03\x04 bomb"), std::string("\x80\x04 pickle"), std::string("\x1f\x8b gzip"),
        std::string("\x93NUMPY x"), std::string("ustar").insert(0, 257, 'x')})
    EXPECT_TRUE(says(format_error([&] { open_gguf(folder.put("model.gguf", magic)); }), "never opened"))
        << magic.substr(0, 4);
}

TEST(HostileGguf, SplitsThatDoNotBelongTogether) {
  TemporaryFolder folder;
  static const std::vector<std::byte> data(8);
  const auto put = [&](const std::string& name, uint16_t number, uint16_t count, int32_t tensors,
                       const std::string& tensor, const std::string& architecture) {
    write_gguf(folder.path / name,
               {{"split.no", number},
                {"split.count", count},
                {"split.tensors.count", tensors},
                {"general.architecture", architecture}},
               {tensor_source(tensor, WeightType::f32, {2}, data)});
    return folder.path / name;
  };
  const auto refusal = [&](const std::filesystem::path& file) {
    return format_error([&] { open_gguf(file); });
  };
  const auto first = put("m-00001-of-00002.gguf", 0, 2, 2, "a", "llama");
  EXPECT_TRUE(says(refusal(first), "m-00002-of-00002.gguf: cannot be opened: No such file"));
  put("m-00002-of-00002.gguf", 1, 2, 2, "b", "llama");
  EXPECT_EQ(open_gguf(first).tensors.size(), 2u);
  put("m-00002-of-00002.gguf", 1, 2, 2, "b", "qwen2");
  EXPECT_TRUE(
      says(refusal(first), "general.architecture: differs from the first shard's; is it another model's?"));
  put("m-00002-of-00002.gguf", 1, 3, 2, "b", "llama");
  EXPECT_TRUE(says(refusal(first), "is shard 2 of 3 with 2 tensors in all; expected shard 2 of 2 with 2"));
  put("m-00002-of-00002.gguf", 1, 2, 9, "b", "llama");
  EXPECT_TRUE(says(refusal(first), "expected shard 2 of 2 with 2"));
  put("m-00002-of-00002.gguf", 0, 2, 2, "b", "llama");
  EXPECT_TRUE(says(refusal(first), "is shard 1 of 2"));
  put("m-00002-of-00002.gguf", 1, 2, 2, "a", "llama");
  EXPECT_TRUE(says(refusal(first), "a: this tensor is in two shards"));
  put("m-00001-of-00002.gguf", 0, 2, 3, "a", "llama");
  put("m-00002-of-00002.gguf", 1, 2, 3, "b", "llama");
  EXPECT_TRUE(says(refusal(first), "promises 3 tensors, the 2 shards hold 2"));
  EXPECT_TRUE(says(refusal(put("renamed.gguf", 0, 2, 2, "a", "llama")),
                   "expected a file name that ends in '-00001-of-00002.gguf'"));
  EXPECT_TRUE(says(refusal(put("x-00003-of-00002.gguf", 2, 2, 2, "a", "llama")),
                   "split.no: is 2; expected less than split.count, 2"));
  write_gguf(folder.path / "y.gguf", {{"split.count", uint16_t{2}}}, {});
  EXPECT_TRUE(says(refusal(folder.path / "y.gguf"), "split.no: is missing"));
}

// Names are compared after sorting, n log n: comparing all pairs of them would take minutes.
TEST(HostileGguf, HundredThousandTensorsAreNoBurden) {
  MadeGguf made;
  for (int i = 0; i < 100000; ++i)
    made.infos.push_back(gguf_info(fmt::format("t{}", (i * 7919) % 100000), {0}, kF32, 0));
  const auto file = made.bytes();
  EXPECT_EQ(parse_gguf(as_bytes_of(file), "x").tensors.size(), 100000u);
}

}  // namespace retort
