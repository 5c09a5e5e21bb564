// What a source may name: files, folders of parts, patterns; and how packed files and quotes are read.
#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>

#include "base/error.h"
#include "data/problem_of.h"
#include "data/rows.h"
#include "data/temporary_folder.h"

namespace retort {
namespace {

class SourceFolders : public ::testing::Test {
 protected:
  SourceSpec source(const std::string& path) const {
    SourceSpec spec;
    spec.path = path;
    spec.prompt = "{q}";
    spec.completion = "{a}";
    return spec;
  }
  static std::string line(int n) { return fmt::format("{{\"q\":\"{}\",\"a\":\"x\"}}\n", n); }
  // A folder within the temporary one, with these files.
  std::string parts(const std::string& name, const std::vector<std::pair<std::string, std::string>>& files) {
    const auto path = std::filesystem::path(folder / name);
    for (const auto& [file, content] : files) {
      std::filesystem::create_directories((path / file).parent_path());
      folder.write(name + "/" + file, content);
    }
    return path.string();
  }
  static std::string shown(const SourceSpec& spec) {
    std::string out;
    for (const auto& record : read_records(spec, 0))
      out += record.messages[0].content + "=" + record.messages[1].content + "|";
    return out;
  }
  void refused(const SourceSpec& spec, const std::string& expected) {
    const auto found = problem_of(spec);
    EXPECT_NE(found.find(expected), std::string::npos) << found;
  }
  static std::string zstd(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
  }
  TemporaryFolder folder;
};

TEST_F(SourceFolders, PartsAreReadInTheOrderOfTheirNames) {
  const auto path = parts(
      "parts",
      {{"b.jsonl", line(3)}, {"a.jsonl", line(1) + line(2)}, {"README.md", "x"}, {".c.jsonl", "hidden"}});
  EXPECT_EQ(shown(source(path)), "1=x|2=x|3=x|");
  EXPECT_EQ(read_records(source(path), 0)[2].place, path + "/b.jsonl:1");
  EXPECT_EQ(shown(source(path + "/?.jsonl")), "1=x|2=x|3=x|");
  EXPECT_EQ(shown(source(path + "/b*")), "3=x|");
  refused(source(path + "/c*"), "no file matches '" + path + "/c*'");
  EXPECT_EQ(source_format(source(path)), "jsonl");
}

TEST_F(SourceFolders, AFileWhoseNameHoldsAStarIsThatFile) {
  folder.write("a[1].jsonl", line(1));
  folder.write("a1.jsonl", line(2));
  EXPECT_EQ(shown(source(folder / "a[1].jsonl")), "1=x|");
}

TEST_F(SourceFolders, WhatCannotBeMeantTogetherIsRefused) {
  refused(source(parts("mixed", {{"a.jsonl", line(1)}, {"b.csv", "q,a\n1,2\n"}})),
          "names files of several formats");
  auto one = source(parts("mixed", {}));
  one.format = "csv";
  EXPECT_EQ(shown(one), "1=2|");
  // The test set would be learned without a word.
  const auto split = parts("split", {{"train-0.jsonl", line(1)}, {"Test-0.jsonl", line(2)}});
  refused(source(split), "names files to train on and files to test on");
  refused(source(split + "/*"), "names files to train on and files to test on");
  EXPECT_EQ(shown(source(split + "/train-*")), "1=x|");
  refused(source(parts("below", {{"a.jsonl", line(1)}, {"more/b.jsonl", line(2)}})),
          "files of folders below are not read");
  refused(source(parts("none", {{"a.md", "x"}})),
          "is a folder without .jsonl, .json, .csv, .parquet or .arrow files");
  refused(source(parts("parquet", {{"a.parquet", "PAR1"}, {"b.jsonl", "{}"}})), "files of several formats");
  refused(source(parts("texts", {{"a.txt", "x"}})), "set format to text or lines");
}

TEST_F(SourceFolders, ZstdIsReadAndBombsAreNot) {
  const auto file = [&](const std::string& name, const std::string& content) {
    return source(folder.write(name, content));
  };
  EXPECT_EQ(shown(file("x.jsonl.zst", zstd(line(1)))), "1=x|");
  EXPECT_EQ(shown(file("two.jsonl.zst", zstd(line(1)) + zstd(line(2)))), "1=x|2=x|");
  const auto whole = zstd(line(1));
  refused(file("c.jsonl.zst", whole.substr(0, whole.size() - 3)), "ends within its packed text");
  refused(file("n.jsonl.zst", line(1)), "is no zstd file");
  auto damaged = whole;
  damaged[6] ^= 0x40;
  EXPECT_NE(problem_of(file("d.jsonl.zst", damaged)), "");
  const auto block = zstd(std::string(size_t{128} << 20, ' '));
  std::string bomb;
  for (int i = 0; i < 10; ++i) bomb += block;
  ASSERT_LT(bomb.size(), size_t{1} << 20);
  refused(file("b.jsonl.zst", bomb), "becomes more than");
  // Magic, a header that asks for a window of 2^41 bytes, and nothing.
  refused(file("w.jsonl.zst", std::string("\x28\xB5\x2F\xFD\x00\xF8\x01\x00\x00", 9)),
          "w.jsonl.zst: was packed");
}

TEST_F(SourceFolders, PackedFilesUnderAnotherNameAreNamed) {
  refused(source(folder.write("x.jsonl", zstd(line(1)))), "is packed by zstd; name it with .zst");
  refused(source(folder.write("y.jsonl", "\x1f\x8b\x08")), "is packed by gzip; name it with .gz");
  refused(source(folder.write("z.csv", "PAR1....")), "is a Parquet file; name it with .parquet");
}

TEST_F(SourceFolders, FilesOfOfficeProgramsAreNamed) {
  for (const auto& [name, what] :
       {std::pair<std::string, std::string>("notes.xlsx", "notes.xlsx: is an Excel file; save the sheet as"),
        {"notes.DOCX", "notes.DOCX: is a Word file; save it as plain text (.txt) and name that"},
        {"notes.pdf", "notes.pdf: is a PDF file; save its text as .txt and name that"}}) {
    folder.write(name, "PK\x03\x04");
    refused(source(folder / name), what);
  }
}

TEST_F(SourceFolders, Utf16WithoutAMarkIsNamed) {
  std::string little, big;
  for (const char c : std::string("q,a\n1,x\n")) little += c, little += '\0', big += '\0', big += c;
  folder.write("little.csv", little);
  refused(source(folder / "little.csv"),
          "little.csv: every second byte is NUL: it looks like UTF-16; set encoding: utf-16 of its source");
  folder.write("big.csv", big);
  refused(source(folder / "big.csv"), "it looks like UTF-16; convert it to UTF-8");
  auto spec = source(folder / "little.csv");
  spec.encoding = "utf-16";
  EXPECT_EQ(shown(spec), "1=x|");
}

TEST_F(SourceFolders, QuotesMayBeCharactersLikeOthers) {
  auto spec = source(folder.write("x.tsv", "q\ta\n5\" pipe\t\"so\"\n\"a\tb\"\n"));
  refused(spec, "set quotes: none of its source");
  spec.quotes = "none";
  EXPECT_EQ(shown(spec), "5\" pipe=\"so\"|\"a=b\"|");
  spec.delimiter = "tab";
  EXPECT_EQ(shown(spec), "5\" pipe=\"so\"|\"a=b\"|");
}

}  // namespace
}  // namespace retort
