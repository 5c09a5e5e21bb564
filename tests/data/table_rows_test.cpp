// Sources in Parquet and Arrow files, and folders that `datasets` saved; read by the program retort-tables.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "data/problem_of.h"
#include "data/rows.h"
#include "data/temporary_folder.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(source_dir()) / "tests/golden/tables";

class TableRows : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(fs::path(binary_dir()) / "retort-tables"))
      GTEST_SKIP() << "retort-tables is not built: run tools/setup parquet";
  }
  static SourceSpec source(const std::string& path, const std::string& prompt = "{q}",
                           const std::string& completion = "{a.text[0]}") {
    SourceSpec spec;
    spec.path = path;
    spec.prompt = prompt;
    spec.completion = completion;
    return spec;
  }
  static std::string shown(const SourceSpec& spec) {
    std::string out;
    for (const auto& record : read_records(spec, 0))
      out += record.messages[0].content + "=" + record.messages[1].content + "|";
    return out;
  }
  static void refused(const SourceSpec& spec, const std::string& expected) {
    const auto found = problem_of(spec);
    EXPECT_NE(found.find(expected), std::string::npos) << found;
  }
  std::string copy(const std::string& name, const std::string& as) const {
    fs::create_directories(fs::path(folder / as).parent_path());
    fs::copy(kGolden / name, folder / as, fs::copy_options::recursive);
    return folder / as;
  }
  TemporaryFolder folder;
};

TEST_F(TableRows, AreRecordsLikeThoseOfJsonWithTheirRowAsPlace) {
  auto as_json =
      source((kGolden / "rows.jsonl").string(), "{code} {exact} {choices.text[A. ]} {bytes}", "{day}");
  as_json.on_bad_record = "skip";  // two rows have no choices
  for (const auto* name : {"snappy.parquet", "pages2.parquet", "lz4.feather", "stream.arrow"}) {
    auto spec = as_json;
    spec.path = (kGolden / name).string();
    EXPECT_EQ(shown(spec), shown(as_json));
    EXPECT_EQ(read_records(spec, 0)[0].place, spec.path + ":1");
  }
  EXPECT_EQ(shown(as_json).substr(0, 12), "J45 12345678");
}

TEST_F(TableRows, ManyRowsComeInOrder) {
  const auto one = copy("snappy.parquet", "many/0.parquet");
  for (int i = 1; i < 40; ++i) fs::copy(one, folder / ("many/" + std::to_string(i) + ".parquet"));
  auto spec = source(folder / "many", "{unsigned}", "x");
  spec.skip_empty = true;  // one of four
  std::string expected;
  for (int i = 0; i < 40; ++i) expected += "18446744073709551615=x|0=x|1=x|";
  EXPECT_EQ(shown(spec), expected);
}

TEST_F(TableRows, ASavedDataSetIsReadByItsState) {
  EXPECT_EQ(shown(source((kGolden / "chosen").string())),
            "question 4=answer 4|question 1=answer 1|question 0=answer 0|");
  EXPECT_EQ(source_format(source((kGolden / "chosen").string())), "arrow");
  auto spec = source((kGolden / "splits").string());
  refused(spec, "holds the splits train, test; say which is read, as split: train");
  spec.split = "tset";
  refused(spec, "has no split 'tset'; did you mean 'test'?");
  spec.split = "test";
  EXPECT_EQ(shown(spec), "held out=z|");
  spec.split = "train";
  EXPECT_EQ(read_records(spec, 0).size(), 5u);
  EXPECT_EQ(source_files(spec).size(), 2u);
  spec.split = "";
  spec.path += "/test";  // a split is a saved data set of its own
  EXPECT_EQ(shown(spec), "held out=z|");
  spec.format = "jsonl";
  refused(spec, "was saved by `datasets`");
}

TEST_F(TableRows, ASavedDataSetThatIsNotWholeIsRefused) {
  const auto path = copy("chosen", "chosen");
  const auto state = read_text(path + "/state.json");
  fs::remove(path + "/data-00000-of-00001.arrow");
  refused(source(path), "data-00000-of-00001.arrow");
  folder.write("chosen/state.json", R"({"_data_files": [{"filename": "../splits/dataset_dict.json"}]})");
  refused(source(path), "dataset_dict.json");
  folder.write(
      "chosen/state.json",
      R"({"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i.arrow"}]})");
  refused(source(path), "save the data set after flatten_indices()");
  folder.write("chosen/state.json", "{}");
  refused(source(path), "_data_files: expected the list");
}

TEST_F(TableRows, FilesNamedForTheirSplitsAreChosenByIt) {
  copy("snappy.parquet", "hub/train-00000-of-00002.parquet");
  copy("snappy.parquet", "hub/train-00001-of-00002.parquet");
  copy("pages2.parquet", "hub/test-00000-of-00001.parquet");
  copy("pages2.parquet", "hub/train_extra-00000-of-00001.parquet");
  auto spec = source(folder / "hub", "{unsigned}", "x");
  refused(spec, "names files to train on and files to test on");
  spec.split = "train";
  EXPECT_EQ(source_files(spec).size(), 2u);
  spec.split = "train_extra";
  EXPECT_EQ(source_files(spec).size(), 1u);
  spec.split = "dev";
  refused(spec, "holds no file that is named for the split 'dev'");
  spec.path = folder / "hub/test-00000-of-00001.parquet";
  refused(spec, "is no folder");
}

TEST_F(TableRows, DamageIsOneLineThatNamesTheFile) {
  for (const auto* name : {"snappy.parquet", "lz4.feather", "stream.arrow"}) {
    const auto whole = read_text(kGolden / name);
    const auto ending = fs::path(name).extension().string();
    for (const auto size : {size_t{0}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
      const auto file = folder.write("cut" + ending, std::string_view(whole).substr(0, size));
      const auto found = problem_of(source(file, "{text}", "{day}"));
      EXPECT_TRUE(found.starts_with(file + ": ")) << found;
      EXPECT_EQ(found.find('\n'), std::string::npos) << found;
    }
  }
  refused(source(folder.write("x.parquet", "{}"), "{q}", "{a}"), "is neither a Parquet nor an Arrow file");
  auto spec = source((kGolden / "snappy.parquet").string(), "{text}", "{day}");
  spec.encoding = "cp1252";
  refused(spec, "leave encoding out");
}

}  // namespace
}  // namespace retort
