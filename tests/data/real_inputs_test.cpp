// The two domain inputs that the recipes use, against counts taken with Python's ElementTree and grep.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "data/check_samples.h"
#include "text/gguf_metadata.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::string kRoot = std::string(source_dir()) + "/";
const std::string kList =
    kRoot + "third_party/inputs/icd10/simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml";
const std::string kLicences = kRoot + "third_party/inputs/licences/licensedcode/data/licenses";
const std::string kGguf = kRoot + "checkpoints/smollm2-135m-instruct-q4_1.gguf";

std::string value(const Record& record, std::string_view name) {
  for (const auto& [column, text] : record.columns)
    if (column == name) return text;
  return "";
}

SourceSpec codes() {
  SourceSpec source;
  source.path = kList;
  source.format = "icd10cm";
  source.system = "Answer with the ICD-10-CM category of the diagnosis.";
  source.prompt = "{description}";
  source.completion = "{category}";
  return source;
}

SourceSpec licences() {
  SourceSpec source;
  source.path = kLicences;
  source.format = "licences";
  source.system = "Review the licence: category and obligations.";
  source.prompt = "{name}\n\n{text:1600}";
  source.completion = "Category: {category}\nObligations: {obligations}";
  return source;
}

TEST(RealInputs, Icd10cmApril2026) {
  if (!std::filesystem::exists(kList)) GTEST_SKIP() << kList << " is missing: tools/setup fetches it";
  const auto records = read_records(codes(), 0);
  ASSERT_EQ(records.size(), 46881u);  // <diag> elements
  std::set<std::string> categories, chapters;
  for (const auto& record : records) {
    ASSERT_TRUE(value(record, "code").starts_with(value(record, "category"))) << record.place;
    ASSERT_EQ(value(record, "category").size(), 3u) << record.place;
    categories.insert(value(record, "category"));
    chapters.insert(value(record, "chapter_description"));
  }
  EXPECT_EQ(categories.size(), 1918u);
  EXPECT_EQ(chapters.size(), 22u);
  EXPECT_EQ(records[1].messages[1].content, "Cholera due to Vibrio cholerae 01, biovar cholerae");
  EXPECT_EQ(records[1].completion(), "A00");
  EXPECT_EQ(value(records[1], "terms"), "Classical cholera");
  EXPECT_EQ(value(records[1], "section"), "Intestinal infectious diseases");
}

TEST(RealInputs, LicenceTexts) {
  if (!std::filesystem::exists(kLicences)) GTEST_SKIP() << kLicences << " is missing: tools/setup fetches it";
  const auto records = read_records(licences(), 0);
  std::map<std::string, int> categories;
  for (const auto& record : records) ++categories[value(record, "category")];
  EXPECT_EQ(categories["Permissive"], 907);
  EXPECT_EQ(categories["Copyleft"], 163);
  EXPECT_EQ(categories["Copyleft Limited"], 389);
  EXPECT_EQ(categories["Patent License"], 20);
  EXPECT_EQ(categories.size(), 11u);
  const auto mit = std::find_if(records.begin(), records.end(),
                                [](const auto& record) { return value(record, "key") == "mit"; });
  ASSERT_NE(mit, records.end());
  EXPECT_EQ(mit->completion(), "Category: Permissive\nObligations: keep notices");
}

TEST(RealInputs, BothFitSmollm2AndPassTheChecks) {
  if (!std::filesystem::exists(kGguf) || !std::filesystem::exists(kList) ||
      !std::filesystem::exists(kLicences))
    GTEST_SKIP() << "tools/setup fetches the inputs";
  const auto tokenizer = tokenizer_from_gguf(read_gguf_vocabulary(kGguf), "smollm2.gguf");
  const auto& chat = *find_chat_template("smollm2");
  for (const auto& source : {codes(), licences()}) {
    DataSpec spec;
    spec.sources = {source};
    spec.sources[0].limit = 1000;
    spec.held_out.count = 100;
    spec.sample_tokens = 1024;
    const auto records = read_records(spec);
    const auto data = build_dataset(spec, records, *tokenizer, chat);
    EXPECT_EQ(data.held_out.size(), 100u);
    EXPECT_EQ(data.train.size(), 900u);
    EXPECT_TRUE(sample_problems(data.train, *tokenizer, chat).empty());
    const auto statistics = sample_statistics(data.train, 16, 4096, 7);
    EXPECT_GT(statistics.shared_saving, source.format == "licences" ? 0.02 : 0.4);
    for (size_t i = 0; i < 3; ++i) {  // what evaluation does: prompt, then the answer's text
      const auto prompt = prompt_tokens(data.held_out_records[i], *tokenizer, chat);
      const auto& tokens = data.held_out[i].tokens;
      ASSERT_LT(prompt.size(), tokens.size());
      EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), tokens.begin()));
      EXPECT_EQ(tokenizer->decode(std::span(tokens).subspan(prompt.size()), true),
                data.held_out_records[i].completion() + "\n");
    }
    if (std::getenv("RETORT_SHOW")) {
      fmt::print("{}", rendered_samples(data.train, *tokenizer, 3, false));
      fmt::print("{}", describe_samples(spec, data, statistics,
                                        find_overlap(records, held_out_records(spec, records))));
    }
  }
}

}  // namespace
}  // namespace retort
