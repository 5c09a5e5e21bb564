// Hostile safetensors files, indexes and folders.
#include <gtest/gtest.h>

#include "formats/made_files.h"

namespace retort {
namespace {

std::string tensor_json(std::string_view name, std::string_view dtype, std::string_view shape,
                        std::string_view offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape, offsets);
}
std::string one(std::string_view shape, std::string_view offsets, size_t data_bytes,
                std::string_view dtype = "U8") {
  return safetensors_bytes("{" + tensor_json("t", dtype, shape, offsets) + "}", data_bytes);
}
std::string refused_header(std::string_view header, size_t data_bytes = 0) {
  return safetensors_error(safetensors_bytes(header, data_bytes));
}

}  // namespace

TEST(HostileSafetensors, TheMinimalFilesAreAccepted) {
  EXPECT_EQ(parse_safetensors(as_bytes_of(one("[4]", "[0,4]", 4)), "x").tensors.size(), 1u);
  EXPECT_EQ(parse_safetensors(as_bytes_of(safetensors_bytes("{}", 0)), "x").tensors.size(), 0u);
  EXPECT_EQ(parse_safetensors(as_bytes_of(safetensors_bytes("{}      ", 0)), "x").tensors.size(), 0u);
  EXPECT_EQ(parse_safetensors(as_bytes_of(one("[]", "[0,1]", 1)), "x").tensors[0].shape.size(), 0u);
  EXPECT_EQ(parse_safetensors(as_bytes_of(one("[0,7]", "[0,0]", 0)), "x").tensors.size(), 1u);
  // Data order, not header order; and a tensor that starts at an odd byte.
  const auto file = safetensors_bytes("{" + tensor_json("late", "F32", "[1]", "[1,5]") + "," +
                                          tensor_json("early", "U8", "[1]", "[0,1]") + "}",
                                      5);
  const auto parsed = parse_safetensors(as_bytes_of(file), "x");
  EXPECT_EQ(parsed.tensors[0].name, "early");
  EXPECT_EQ(parsed.tensors[1].begin, file.size() - 4);
}

TEST(HostileSafetensors, EveryTruncationIsNoticed) {
  const auto file = one("[4]", "[0,4]", 4);
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_THROW(parse_safetensors(as_bytes_of(std::string_view(file).substr(0, length)), "cut"), FormatError)
        << length;
}

TEST(HostileSafetensors, HeaderLengths) {
  EXPECT_TRUE(says(safetensors_error("\x01"), "the header's length needs 8 bytes, 1 bytes left"));
  EXPECT_TRUE(says(safetensors_error(le(uint64_t{3}) + "{}"),
                   "the header needs 3 bytes, 2 bytes left; is the download complete?"));
  EXPECT_TRUE(says(safetensors_error(le(uint64_t{100'000'001}) + "{}"), "at most 100000000 are allowed"));
  EXPECT_TRUE(says(safetensors_error(le(~uint64_t{0}) + "{}"), "at most 100000000 are allowed"));
  EXPECT_TRUE(says(safetensors_error(le(uint64_t{0})), "must begin with '{'"));
  EXPECT_TRUE(says(refused_header(" {}"), "must begin with '{'"));
  EXPECT_TRUE(says(refused_header("\xEF\xBB\xBF{}"), "must begin with '{'"));
}

TEST(HostileSafetensors, HeadersThatAreNoJson) {
  for (const auto* header : {"{", "{]", "{\"a\"}", "{} {}", "{},", "{\"\xff\":1}", "{\"\\ud800\":1}"})
    EXPECT_TRUE(says(refused_header(header), "made.safetensors: ")) << header;
  EXPECT_TRUE(says(refused_header(std::string_view("{}\0\0", 4)), "byte 10: the header holds a NUL byte"));
  std::string deep = "{\"t\":{\"shape\":";
  EXPECT_TRUE(says(refused_header(deep + std::string(100000, '[')), "t: shape holds an array"));
  EXPECT_TRUE(
      says(refused_header("{\"__metadata__\":{\"a\":{\"b\":1}}}"), "a: found an object; expected a string"));
  EXPECT_TRUE(says(refused_header("{\"t\":[]}"), "t: found an array; expected a tensor's object"));
  EXPECT_TRUE(says(refused_header("{\"t\":null}"), "t: found null"));
  EXPECT_TRUE(says(refused_header("{\"t\":{}}"), "t: needs dtype, shape and data_offsets"));
  EXPECT_TRUE(
      says(refused_header("{\"t\":{\"dtype\":\"U8\",\"shape\":[],\"more\":1}}"), "t: unknown key 'more'"));
  EXPECT_TRUE(says(refused_header("{\"t\":{\"dtype\":7}}"), "t: dtype holds a number"));
  EXPECT_TRUE(says(refused_header("{\"t\":{\"shape\":\"x\"}}"), "t: shape holds a string"));
  EXPECT_TRUE(says(refused_header("{\"t\":{\"data_offsets\":{}}}"), "t: data_offsets holds an object"));
  EXPECT_TRUE(says(refused_header("{\"t\":{\"dtype\":[]}}"), "t: dtype holds an array"));
  EXPECT_TRUE(says(refused_header("{\"__metadata__\":{\"a\":1}}"), "a: found a number; expected a string"));
  EXPECT_TRUE(says(refused_header("{\"t\":true}"), "t: found true or false"));
}

TEST(HostileSafetensors, NumbersAreWholeUnsignedAndOf64Bits) {
  EXPECT_TRUE(says(safetensors_error(one("[4.0]", "[0,4]", 4)), "t: shape holds a number with fraction"));
  EXPECT_TRUE(
      says(safetensors_error(one("[4]", "[0,4e0]", 4)), "t: data_offsets holds a number with fraction"));
  EXPECT_TRUE(says(safetensors_error(one("[-4]", "[0,4]", 4)), "t: shape holds a negative number"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[-0,4]", 4)), "t: data_offsets holds a negative number"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,18446744073709551616]", 4)), "more than 64 bits"));
  EXPECT_TRUE(says(safetensors_error(one("[9223372036854775808]", "[0,4]", 4)), "a dimension above 2^63"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0]", 4)), "t: data_offsets holds 1 numbers; expected 2"));
  EXPECT_TRUE(
      says(safetensors_error(one("[4]", "[0,2,4]", 4)), "t: data_offsets holds a number; expected two"));
  // 2^53 + 1, which a double would round to 2^53.
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,9007199254740993]", 4)), "[0, 9007199254740993)"));
}

TEST(HostileSafetensors, ShapesWhoseProductWraps) {
  EXPECT_TRUE(says(safetensors_error(one("[4294967296,4294967296]", "[0,0]", 0)),
                   "shape [4294967296, 4294967296] overflows 64 bits"));
  EXPECT_TRUE(
      says(safetensors_error(one("[4194305,4194305,211106198978564]", "[0,4]", 4)), "overflows 64 bits"));
  EXPECT_TRUE(says(safetensors_error(one("[9223372036854775807,2,1,1]", "[0,4]", 4)), "overflows 64 bits"));
  EXPECT_TRUE(says(safetensors_error(one("[9223372036854775807]", "[0,4]", 4, "F32")), "64 bits"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[18446744073709551612,18446744073709551615]", 4)),
                   "lies outside the file's 4 bytes"));
}

TEST(HostileSafetensors, DataThatDoNotTileTheFile) {
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,4]", 5)), "1 bytes follow the last tensor"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,4]", 3)),
                   "lies outside the file's 3 bytes of data; is the download complete?"));
  EXPECT_TRUE(
      says(safetensors_error(one("[4]", "[1,5]", 5)), "leaves a hole before it; expected to begin at 0"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[4,0]", 4)), "lies outside"));
  EXPECT_TRUE(says(safetensors_error(one("[3]", "[0,4]", 4)),
                   "shape [3] as U8 needs 3 bytes, data_offsets [0, 4) give 4 bytes"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,4]", 4, "F32")), "needs 16 bytes"));
  EXPECT_TRUE(says(safetensors_error(safetensors_bytes("{}", 1)), "1 bytes follow the last tensor"));
  const auto two = [](std::string_view a, std::string_view b, size_t data_bytes) {
    return safetensors_error(safetensors_bytes(
        "{" + tensor_json("a", "U8", "[4]", a) + "," + tensor_json("b", "U8", "[4]", b) + "}", data_bytes));
  };
  EXPECT_TRUE(
      says(two("[0,4]", "[2,6]", 6), "b: its data [2, 6) overlaps another tensor's; expected to begin at 4"));
  EXPECT_TRUE(says(two("[0,4]", "[0,4]", 4), "overlaps another tensor's"));
  EXPECT_TRUE(says(two("[0,4]", "[6,10]", 10), "b: its data [6, 10) leaves a hole"));
}

TEST(HostileSafetensors, NamesAndKeysTwice) {
  const auto t = tensor_json("t", "U8", "[4]", "[0,4]"), again = tensor_json("t", "U8", "[4]", "[4,8]");
  EXPECT_TRUE(
      says(refused_header("{" + t + "," + again + "}", 8), "made.safetensors: t: this tensor stands twice"));
  EXPECT_TRUE(says(refused_header("{" + t + "," + tensor_json("\\u0074", "U8", "[4]", "[4,8]") + "}", 8),
                   "t: this tensor stands twice"));
  EXPECT_TRUE(says(refused_header(R"({"t":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}})"),
                   "t: the key 'dtype' stands twice"));
  EXPECT_TRUE(says(refused_header(R"({"__metadata__":{"a":"1","a":"2"}})"),
                   "a: this key stands twice in __metadata__"));
  EXPECT_TRUE(says(refused_header(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__: stands twice"));
  EXPECT_TRUE(says(safetensors_error(one("[4]", "[0,4]", 4, "U9")), "dtype 'U9' is unknown"));
  EXPECT_TRUE(says(refused_header("{" + tensor_json("", "U8", "[0]", "[0,0]") + "}"), "name is empty"));
}

TEST(HostileSafetensors, HundredThousandEntriesAreNoBurden) {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i)
    header += (i ? "," : "") + tensor_json(fmt::format("t{}", (i * 7919) % 100000), "U8", "[1]",
                                           fmt::format("[{},{}]", i, i + 1));
  const auto file = safetensors_bytes(header + "}", 100000);
  EXPECT_EQ(parse_safetensors(as_bytes_of(file), "x").tensors.size(), 100000u);
}

TEST(HostileSafetensors, ArchivesAndPicklesUnderItsName) {
  TemporaryFolder folder;
  const auto refusal = [&](std::string_view content) {
    return format_error([&] { open_weights(folder.put("model.safetensors", content)); });
  };
  EXPECT_TRUE(says(refusal("PK\x03\x04" + std::string(100, 'z')),
                   "is a zip archive (perhaps a PyTorch pickle); archives and pickles are never opened"));
  EXPECT_TRUE(says(refusal("\x80\x02}q" + std::string(20, 'q')), "is a pickle"));
  EXPECT_TRUE(says(refusal("\x93NUMPY\x01"), "is a NumPy array"));
  EXPECT_TRUE(says(refusal("\x1f\x8b\x08"), "is a gzip archive"));
  EXPECT_TRUE(says(refusal(std::string(257, '\0') + "ustar"), "is a tar archive"));
  EXPECT_TRUE(says(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"));
  EXPECT_TRUE(says(refusal("<!DOCTYPE html><html>"), "web page"));
  // A header of 0x0480 bytes begins like a pickle; it is one no more than this is.
  EXPECT_EQ(parse_safetensors(as_bytes_of(safetensors_bytes("{}" + std::string(0x0480 - 2, ' '), 0)), "x")
                .tensors.size(),
            0u);
}

TEST(HostileIndex, ShardNamesArePlainNamesBeneathTheFolder) {
  TemporaryFolder folder;
  const auto model = folder.path / "model";
  folder.put("outside.safetensors", one("[4]", "[0,4]", 4));
  const auto index_of = [&](const std::string& shard) {
    write_text(model / "model.safetensors.index.json", Json{{"weight_map", {{"t", shard}}}}.dump());
    return format_error([&] { open_safetensors_folder(model); });
  };
  for (const auto& shard :
       {std::string("../outside.safetensors"), (folder.path / "outside.safetensors").string(),
        std::string(".."), std::string(""), std::string("a/../../outside.safetensors"),
        std::string("..\\outside.safetensors"), std::string("a\0b", 3)})
    EXPECT_TRUE(says(index_of(shard), "is not a plain file name")) << shard;
  std::filesystem::create_symlink("../outside.safetensors", model / "out.safetensors");
  EXPECT_TRUE(says(index_of("out.safetensors"), "link to a file outside the model's folder"));
  std::filesystem::create_symlink("loop.safetensors", model / "loop.safetensors");
  EXPECT_TRUE(says(index_of("loop.safetensors"), "Too many levels of symbolic links"));
  EXPECT_TRUE(says(index_of("absent.safetensors"), "absent.safetensors: cannot be opened: No such file"));
  EXPECT_TRUE(says(index_of("model.safetensors.index.json"), "model.safetensors.index.json"));
  write_text(model / "real.safetensors", one("[4]", "[0,4]", 4));
  std::filesystem::create_symlink("real.safetensors", model / "in.safetensors");
  write_text(model / "model.safetensors.index.json", R"({"weight_map": {"t": "in.safetensors"}})");
  EXPECT_EQ(open_safetensors_folder(model).tensors.size(), 1u);  // a link that stays inside is followed
}

TEST(HostileIndex, IndexAndShardsMustAgree) {
  TemporaryFolder folder;
  const auto refusal = [&](const std::string& index) {
    folder.put("model.safetensors.index.json", index);
    return format_error([&] { open_weights(folder.path); });
  };
  folder.put("1.safetensors", safetensors_bytes("{" + tensor_json("a", "U8", "[4]", "[0,4]") + "}", 4));
  folder.put("2.safetensors", safetensors_bytes("{" + tensor_json("b", "U8", "[4]", "[0,4]") + "}", 4));
  EXPECT_TRUE(
      says(refusal(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}})"),
           "c: the index places it in 2.safetensors, but no shard holds it"));
  EXPECT_TRUE(says(refusal(R"({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}})"),
                   "a: the index places it in 2.safetensors, but it is in"));
  folder.put("1.safetensors", safetensors_bytes("{" + tensor_json("a", "U8", "[4]", "[0,4]") + "," +
                                                    tensor_json("x", "U8", "[0]", "[4,4]") + "}",
                                                4));
  EXPECT_TRUE(says(refusal(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})"),
                   "x: this tensor is missing from the index"));
  folder.put("1.safetensors", safetensors_bytes("{" + tensor_json("a", "U8", "[4]", "[0,4]") + "," +
                                                    tensor_json("b", "U8", "[0]", "[4,4]") + "}",
                                                4));
  EXPECT_TRUE(says(refusal(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})"),
                   "b: this tensor is in two shards"));
  folder.put("1.safetensors", safetensors_bytes("{}", 0));
  EXPECT_TRUE(
      says(refusal(R"({"weight_map": {"a": "1.safetensors"}})"), "holds no tensors; the index promises 1"));
  EXPECT_TRUE(says(refusal(R"({"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}})"),
                   "a: this key stands twice"));
  EXPECT_TRUE(says(refusal(R"({"weight_map": {"a": 1}})"), "a: its shard is not a file name"));
  EXPECT_TRUE(says(refusal(R"({"weight_map": []})"), "weight_map: is missing or not an object"));
  EXPECT_TRUE(says(refusal("[]"), "weight_map: is missing"));
  EXPECT_TRUE(says(refusal("{\"weight_map\": " + std::string(100000, '[')), "nested deeper than 64"));
}

TEST(HostileFolder, SaysWhatItLacks) {
  TemporaryFolder folder;
  const auto refusal = [&] { return format_error([&] { open_weights(folder.path); }); };
  EXPECT_TRUE(says(refusal(),
                   "holds neither model.safetensors nor model.safetensors.index.json; expected a Hugging "
                   "Face folder with config.json and safetensors, or name a .gguf file"));
  folder.put("pytorch_model.bin", "PK\x03\x04");
  EXPECT_TRUE(says(
      refusal(), "holds weights only as a pickle (pytorch_model.bin), which runs code and is never opened"));
  folder.put("a.gguf", MadeGguf{}.bytes());
  EXPECT_EQ(open_weights(folder.path).tensors.size(), 0u);
  folder.put("b.gguf", MadeGguf{}.bytes());
  EXPECT_TRUE(says(refusal(), "holds 2 GGUF models; name the file"));
  folder.put("model.safetensors", safetensors_bytes("{}", 0));
  folder.put("model.safetensors.index.json", R"({"weight_map": {"a": "model-00001-of-00001.safetensors"}})");
  EXPECT_TRUE(says(refusal(), "holds both model.safetensors and model.safetensors.index.json"));
  EXPECT_TRUE(
      says(format_error([&] { open_weights(folder.path / "absent"); }), "cannot be opened: No such file"));
  EXPECT_TRUE(
      says(format_error([&] { open_safetensors_folder(folder.path / "a.gguf"); }), "is not a folder"));
}

TEST(HostileFile, ChangedAfterItWasOpened) {
  TemporaryFolder folder;
  const auto file = folder.put("model.safetensors", one("[4]", "[0,4]", 4));
  const auto weights = open_weights(file);
  weights.require_unchanged();
  std::filesystem::resize_file(file, 20);
  EXPECT_TRUE(says(format_error([&] { weights.require_unchanged(); }), "changed while it was being read"));
}

}  // namespace retort
