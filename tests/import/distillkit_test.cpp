// What DistillKit's own decompressor reads in folders that its own compressor wrote
// (tools/golden/distillkit.py), and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "fuzz/damage.h"            // tests/fuzz
#include "import/compressed_row.h"
#include "import/parquet_texts.h"
#include "import/written_folder.h"  // tests/import
#include "teacher/teach_imported.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr size_t kKept = 16;
const std::vector<size_t> kTexts = {7, 3, 9, 5};  // tokens

fs::path golden(const std::string& name) { return fs::path(source_dir()) / "tests/golden/distillkit" / name; }

CompressionConfig config_of(const fs::path& folder) {
  return read_compression_config(read_text(folder / "compression_config.yaml"), "compression_config.yaml");
}

// Every rank of every position of a folder, in order.
std::vector<Ranks> all_ranks(const fs::path& folder) {
  const auto config = config_of(folder);
  const RankDecoder decoder(config);
  const bool packed = std::holds_alternative<PackedRows>(config);
  std::vector<Ranks> all;
  for (const auto& part : distillkit_parts(folder)) {
    ParquetTexts texts(part, packed ? std::vector<NestedColumn>{{"compressed_logprobs", Element::u8},
                                                                {"bytepacked_indices", Element::u8}}
                                    : std::vector<NestedColumn>{{"packed_indices", Element::u64},
                                                                {"exact_values", Element::f32},
                                                                {"coeffs", Element::f32}});
    while (texts.next()) {
      const auto& columns = texts.columns();
      for (size_t p = 0; p < columns[0].size(); ++p) {
        all.emplace_back();
        if (packed) decoder.packed(columns[0].at<uint8_t>(p), columns[1].at<uint8_t>(p), all.back());
        else
          decoder.fitted(columns[0].at<uint64_t>(p), columns[1].at<float>(p), columns[2].at<float>(p),
                         all.back());
      }
    }
  }
  return all;
}

class Golden : public testing::TestWithParam<std::pair<const char*, double>> {};

TEST_P(Golden, EveryRankIsWhatDistillKitReads) {
  const auto [name, tolerance] = GetParam();
  const auto expected = read_text(golden(std::string(name) + ".expected"));
  const auto ranks = all_ranks(golden(name));
  ASSERT_EQ(ranks.size(), 20u);  // a position fewer than tokens in each of four texts
  ASSERT_EQ(expected.size(), ranks.size() * kKept * 8);
  double largest = 0;
  for (size_t p = 0; p < ranks.size(); ++p) {
    ASSERT_EQ(ranks[p].ids.size(), kKept);
    ASSERT_EQ(ranks[p].log_p.size(), kKept);
    for (size_t j = 0; j < kKept; ++j) {
      int32_t id;
      float log_p;
      std::memcpy(&id, expected.data() + (p * 2 * kKept + j) * 4, 4);
      std::memcpy(&log_p, expected.data() + (p * 2 * kKept + kKept + j) * 4, 4);
      EXPECT_EQ(ranks[p].ids[j], static_cast<uint64_t>(id)) << p << " " << j;
      if (std::isinf(log_p)) {
        EXPECT_EQ(ranks[p].log_p[j], log_p) << p << " " << j;
        continue;
      }
      EXPECT_NEAR(ranks[p].log_p[j], log_p, tolerance) << p << " " << j;
      largest = std::max(largest, std::abs(static_cast<double>(ranks[p].log_p[j]) - log_p));
    }
  }
  RecordProperty("largest_difference", fmt::format("{:.3g}", largest));
  if (tolerance > 0) fmt::print("{}: largest difference {:.3g}\n", name, largest);
}

// 0: to the bit. The others add up the terms of a curve in fp32, in an order of their own: log-probabilities
// are below 12, terms of the older schema's inverted powers below 60, so that this is a few of their last
// bits.
INSTANTIATE_TEST_SUITE_P(DistillKit, Golden,
                         testing::Values(std::pair("exact", 0.0), std::pair("missing", 0.0),
                                         std::pair("polynomial", 1e-6), std::pair("bins", 1e-6),
                                         std::pair("delta", 1e-6), std::pair("diffusion", 0.0),
                                         std::pair("half-terms", 0.0), std::pair("half-normalized", 0.0),
                                         std::pair("double-terms", 1e-6), std::pair("legacy", 2e-6),
                                         std::pair("legacy-rising", 1e-6)),
                         [](const auto& one) {
                           std::string name = one.param.first;
                           std::erase(name, '-');
                           return name;
                         });

TEST(DistillKit, RowsFollowTheirTokensLikeliestFirst) {
  const auto texts = open_distillkit(golden("missing"), {300, 320});
  ScoredText text;
  for (const auto tokens : kTexts) {
    ASSERT_TRUE(texts->next(text));
    EXPECT_EQ(text.tokens.size(), tokens);
    ASSERT_EQ(text.rows.size(), tokens - 1);
    for (const auto& row : text.rows) {
      ASSERT_EQ(row.ids.size(),
                kKept - 3);  // without those that hold nothing, whose ids lie outside the vocabulary
      EXPECT_TRUE(std::is_sorted(row.log_p.rbegin(), row.log_p.rend()));
    }
  }
  EXPECT_FALSE(texts->next(text));
  EXPECT_EQ(texts->remarks(), "");
}

// A folder of exact ranks, worked by hand: 9 bits an id, 4 bytes a value.
class Refused : public testing::Test {
 protected:
  static std::string config(const std::string& more = "", int64_t d = 300) {
    return fmt::format(
        "d: {}\nk: 3\nexact_k: 3\ndelta_encoding: false\npolynomial_terms: null\nresidual_bins: []\n{}", d,
        more);
  }
  static WrittenText text() {
    WrittenText one{{5, 6, 7}, {}, {}};
    for (uint64_t p = 0; p < 2; ++p) {
      one.values.push_back(floats({std::log(0.5f), std::log(0.25f), std::log(0.125f)}));
      one.ids.push_back(packed_ids({6 + p, 299, 0}, 9));
    }
    return one;
  }
  std::string file() const { return (folder / "data_0.parquet"); }
  // What reading all of the folder says; "" when it is read.
  std::string problem(StudentTokens student = {300, 300}) const {
    try {
      const auto texts = open_distillkit(folder / "", student);
      for (ScoredText each; texts->next(each);) {}
      return "";
    } catch (const FormatError& error) { return error.what(); }
  }
  void expect(const std::string& part, StudentTokens student = {300, 300}) const {
    const auto what = problem(student);
    EXPECT_NE(what.find(part), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
  void SetUp() override {
    folder.write("compression_config.yaml", config());
    write_texts(file(), {text(), text(), text()});
  }
  TemporaryFolder folder;
};

TEST_F(Refused, NotWhatIsSound) {
  EXPECT_EQ(problem(), "");
  auto whole = text();  // a row for the last token too
  whole.values.push_back(whole.values[0]), whole.ids.push_back(whole.ids[0]);
  write_texts(file(), {whole});
  EXPECT_EQ(problem(), "");
}

TEST_F(Refused, AnotherVocabulary) {
  expect(
      "compression_config.yaml: d: the teacher's vocabulary has 300 tokens, the student's 310; expected a "
      "teacher with the student's tokenizer",
      {310, 310});
  expect("the student's 301 (its matrices 320)", {301, 320});
  EXPECT_EQ(problem({299, 299}), "");  // DistillKit counts one more than there are
  EXPECT_EQ(problem({290, 300}), "");  // padded matrices
}

TEST_F(Refused, ConfigurationsThatSayMoreThanIsKnown) {
  for (const auto& [more, what] : std::vector<std::pair<std::string, std::string>>{
           {"gzip: true\n", "gzip: unknown key"},
           {"exact_dtype: float8\n",
            "exact_dtype: expected one of float16, bfloat16, float32, float64, found 'float8'"},
           {"term_dtype: 3\n", "term_dtype: expected"},
           {"normalize_t: maybe\n", "normalize_t: expected"}}) {
    folder.write("compression_config.yaml", config(more));
    expect("compression_config.yaml:");
    expect(what);
  }
  for (const auto& [whole, what] : std::vector<std::pair<std::string, std::string>>{
           {"", "compression_config.yaml: is empty"},
           {"d: 300\nk: 3\n", "exact_k: missing"},
           {"d: 300\nk: 301\nexact_k: 301\n", "k: keeps 301 ranks of a vocabulary of 300"},
           {"d: 300\nk: 3\nexact_k: 4\n", "exact_k: expected at most k (3), found 4"},
           {"d: 300\nk: 3\nexact_k: 2\n",
            "1 ranks are neither exact nor in polynomial_terms or residual_bins"},
           {"d: 300\nk: 3\nexact_k: 2\npolynomial_terms: [0, cbrt]\n",
            "polynomial_terms: expected powers from 0 to 99, sqrt and exp, found 'cbrt'"},
           {"d: 300\nk: 3\nexact_k: 2\npolynomial_terms: [-1]\n", "found '-1'"},
           {"d: 300\nk: 3\nexact_k: 2\nresidual_bins: [{scale_dtype: float16, element_bits: 65, "
            "num_elements: 1}]\n",
            "residual_bins[0].element_bits: expected a whole number from 1 to 64, found '65'"},
           {"d: 300\nk: 3\nexact_k: 2\nresidual_bins: [{scale_dtype: float16, element_bits: 4, num_elements: "
            "2}]\n",
            "residual_bins: hold 2 elements; expected at most k - exact_k (1)"},
           {"d: 99999999999\nk: 3\nexact_k: 3\n", "d: expected"},
           {"vocab_size: 300\nk: 3\nexact_k: 3\npolynomial_degree: 2\nd_model: 4\n",
            "d_model: unknown key"}}) {
    folder.write("compression_config.yaml", whole);
    expect(what);
  }
}

TEST_F(Refused, RanksThatAreNoDistribution) {
  const auto with = [&](const std::vector<float>& log_p, const std::vector<uint64_t>& ids = {1, 2, 3}) {
    auto one = text();
    one.values[1] = floats(log_p), one.ids[1] = packed_ids(ids, 9);
    write_texts(file(), {text(), one});
  };
  with({-1, -2, -3}, {1, 300, 3});
  expect("data_0.parquet: text 2: position 2: rank 2 names token 300; the vocabulary has 300");
  with({0.1f, -2, -3});
  expect("position 2: rank 1 has a probability of 1.105; are these log-probabilities");
  with({-0.2f, -0.4f, -3});
  expect("its probabilities add up to 1.5388");
  with({-1, std::nanf(""), -3});
  expect("rank 2 is not a number");
  const auto none = -std::numeric_limits<float>::infinity();
  with({none, none, none});
  expect("no rank holds a probability");
  with({-1, none, none}, {1, 511, 511});  // missing ranks are no numbers of tokens
  EXPECT_EQ(problem(), "");
}

TEST_F(Refused, TokensNamedTwiceStayInTheRest) {
  auto one = text();
  one.ids[1] = packed_ids({1, 299, 299}, 9);
  write_texts(file(), {one});
  const auto texts = open_distillkit(
      folder / "", {299, 300});  // 299 is padding: twice in the first row's places, and twice here
  ScoredText read;
  ASSERT_TRUE(texts->next(read));
  EXPECT_EQ(read.rows[0].ids, (std::vector<int32_t>{6, 0}));
  EXPECT_EQ(read.rows[1].ids, (std::vector<int32_t>{1}));
  EXPECT_EQ(texts->remarks(),
            "3 ranks name a token twice or one that the student lacks and stay in the rest");
}

TEST_F(Refused, ColumnsOfOtherShapes) {
  const auto tokens = token_lists({text()}), values = byte_lists({text()}, &WrittenText::values),
             ids = byte_lists({text()}, &WrittenText::ids);
  write_columns(file(), {{"input_ids", tokens}, {"compressed_logprobs", values}});
  expect("data_0.parquet: bytepacked_indices: no such column; expected list<list<uint8>>");
  write_columns(file(),
                {{"input_ids", tokens}, {"compressed_logprobs", values}, {"bytepacked_indices", tokens}});
  expect("bytepacked_indices: expected list<list<uint8>>, found list<");
  write_columns(file(), {{"input_ids", tokens},
                         {"compressed_logprobs", values},
                         {"bytepacked_indices", ids},
                         {"attention_mask", tokens}});
  expect("attention_mask: unknown column; folders whose texts were packed together are not read");
  auto one = text();
  one.values[1].pop_back();
  write_texts(file(), {one});
  expect("text 1: position 2: compressed_logprobs has 11 elements; compression_config.yaml asks for 12");
  one = text();
  one.ids.pop_back();
  write_texts(file(), {one});
  expect("compressed_logprobs has 2 positions, bytepacked_indices has 1");
  one = text();
  one.tokens.push_back(1);
  write_texts(file(), {one});
  expect("has 4 tokens and 2 positions; expected as many, or one fewer");
  one = text();
  one.tokens[2] = uint64_t{1} << 63;
  write_texts(file(), {one});
  expect("token 3 of input_ids is -9223372036854775808; the vocabulary has 300");
  const auto null = std::make_shared<arrow::UInt64Builder>();
  arrow::ListBuilder lists(arrow::default_memory_pool(), null);
  ASSERT_TRUE(lists.Append().ok() && null->Append(1).ok() && null->AppendNull().ok());
  write_columns(file(), {{"input_ids", lists.Finish().ValueOrDie()},
                         {"compressed_logprobs", values},
                         {"bytepacked_indices", ids}});
  expect("input_ids: row 1 holds a null");
}

TEST_F(Refused, FoldersWithGaps) {
  fs::rename(file(), folder / "data_1.parquet");
  expect(
      "data_1.parquet is there and data_0.parquet is not; expected data_0.parquet, data_1.parquet and so on, "
      "is the download complete?");
  fs::remove(folder / "data_1.parquet");
  expect("has no data_0.parquet; expected a folder that DistillKit wrote");
}

TEST_F(Refused, TruncatedAndDamagedFilesAreRefusedOrRead) {
  const auto whole = read_text(file());
  for (const size_t size : {size_t{0}, size_t{3}, size_t{12}, whole.size() / 2, whole.size() - 1}) {
    folder.write("data_0.parquet", whole.substr(0, size));
    expect(size == 0 ? "data_0.parquet" : "data_0.parquet: is no sound Parquet file (");
  }
  int refused = 0;
  for (uint64_t i = 0; i < 150; ++i) {
    folder.write("data_0.parquet",
                 damaged(whole, "parquet", i, std::string_view("\0\xff\x7f\x80\x15\x2c", 6)));
    refused += !problem().empty();
  }
  EXPECT_GT(refused, 75);
}

// A few kB that stand for a long list: memory is bounded.
TEST_F(Refused, ListsThatAreLongWhenRead) {
  auto one = text();
  one.values.assign(1, Bytes(size_t{2} << 20, 7));
  one.ids.resize(1);
  write_texts(file(), {one});
  ASSERT_LT(fs::file_size(file()), size_t{100} << 10);
  const std::vector<NestedColumn> columns = {{"compressed_logprobs", Element::u8},
                                             {"bytepacked_indices", Element::u8}};
  ParquetTexts enough(file(), columns);
  ASSERT_TRUE(enough.next());
  EXPECT_EQ(enough.columns()[0].at<uint8_t>(0).size(), size_t{2} << 20);
  try {
    ParquetTexts(file(), columns, 8 << 20).next();
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("is no sound Parquet file (one row asks for more than 8388608 bytes (8.0 MiB))"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
