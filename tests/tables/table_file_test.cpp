// Rows of Parquet and Arrow files, against what pyarrow's own Python values are (tools/golden/tables.py).
#include "tables/table_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(source_dir()) / "tests/golden/tables";

std::string golden(const std::string& name) { return read_text(kGolden / name); }

std::string rows_of(std::string_view content) {
  std::string rows;
  read_table(content, "x", [&](std::string_view lines) { rows += lines; });
  return rows;
}

std::string problem_of(std::string_view content) {
  try {
    rows_of(content);
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

constexpr const char* kFiles[] = {"snappy.parquet", "pages2.parquet", "lz4.feather", "stream.arrow"};

TEST(TableFile, EveryTypeInEveryFormatIsTheValueThatPythonSees) {
  const auto expected = golden("rows.jsonl");
  for (const auto* file : kFiles) EXPECT_EQ(rows_of(golden(file)), expected) << file;
}

TEST(TableFile, WhatIsCutIsNeverReadAsAWhole) {
  for (const auto* file : kFiles) {
    const auto whole = golden(file);
    for (size_t size = 0; size < whole.size(); size += 1 + size / 40) {
      const auto problem = problem_of(std::string_view(whole).substr(0, size));
      EXPECT_NE(problem, "") << file << " cut to " << size;
      EXPECT_EQ(problem.find('\n'), std::string::npos) << problem;
    }
  }
  // Between two batches: the library takes this for a whole stream.
  const auto stream = golden("stream.arrow");
  EXPECT_EQ(problem_of(std::string_view(stream).substr(0, stream.size() - 8)),
            "x: ends without the mark that closes an Arrow stream; is the download complete?");
  EXPECT_NE(problem_of(stream + "more").find("goes on with 4 bytes"), std::string::npos);
}

TEST(TableFile, FlippedBitsAreReadOrRefused) {
  for (const auto* file : kFiles) {
    const auto whole = golden(file);
    size_t refused = 0;
    for (size_t at = 0; at < whole.size(); at += 13) {
      auto damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
      const auto problem = problem_of(damaged);
      refused += !problem.empty();
      EXPECT_EQ(problem.find('\n'), std::string::npos) << problem;
    }
    EXPECT_GT(refused, 20u) << file;
  }
}

TEST(TableFile, ASmallFileThatStandsForEndlessRowsIsRefused) {
  const auto bomb = golden("bomb.parquet"), nulls = golden("nulls.parquet");
  ASSERT_LT(bomb.size(), size_t{1} << 20);
  ASSERT_LT(nulls.size(), size_t{1} << 20);
  EXPECT_NE(problem_of(bomb).find("some rows ask for more than"), std::string::npos) << problem_of(bomb);
  std::string problem;
  try {
    read_table(nulls, "x", [](std::string_view) {});
  } catch (const FormatError& error) { problem = error.what(); }
  EXPECT_NE(problem.find("x: becomes more than"), std::string::npos) << problem;
}

TEST(TableFile, OtherFilesAndTypesAreNamed) {
  EXPECT_NE(
      problem_of(golden("union.arrow")).find("x: either: this column holds values of type sparse_union"),
      std::string::npos);
  EXPECT_NE(problem_of("FEA1....").find("Feather file of version 1"), std::string::npos);
  EXPECT_NE(problem_of("PARE....").find("encrypted"), std::string::npos);
  EXPECT_NE(problem_of("{\"q\": 1}").find("neither a Parquet nor an Arrow file"), std::string::npos);
  EXPECT_NE(problem_of("").find("is empty"), std::string::npos);
}

}  // namespace
}  // namespace retort
