#include "data/near_duplicates.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "data/personal_data.h"
#include "data/record_plan.h"
#include "data/temporary_folder.h"

namespace retort {
namespace {

Record text_record(const std::string& text, int line) {
  Record record;
  record.text = text;
  record.place = fmt::format("x:{}", line);
  return record;
}

// `count` words of a vocabulary, drawn by a number.
std::string words(uint64_t number, int count, int changed = 0) {
  const Draws draws(number, "words"), others(number + 1000000, "words");
  std::string text;
  for (int i = 0; i < count; ++i) {
    const auto& from = i >= count - changed ? others : draws;
    text += fmt::format("w{} ", from.below(static_cast<uint64_t>(i), 5000));
  }
  return text;
}

NearDuplicates find(const std::vector<Record>& records, double similarity) {
  return find_near_duplicates(RecordList(records), similarity, nullptr);
}

// Of n words with the last k changed, n - k - 4 runs of 5 are common, and n - 4 + k are in one of the two.
TEST(NearDuplicates, GoByTheShareOfCommonRunsOfFiveWords) {
  const std::vector<Record> records = {text_record(words(1, 104), 1), text_record(words(2, 104), 2),
                                       text_record(words(1, 104, 10), 3)};  // 90 of 110: 0.818
  EXPECT_TRUE(find(records, 0.82).pairs.empty());
  const auto found = find(records, 0.81);
  EXPECT_EQ(found.pairs, (std::vector<std::pair<int64_t, int64_t>>{{2, 0}}));
  EXPECT_EQ(found.places, (std::vector<std::string>{"x:3 ~ x:1"}));
}

TEST(NearDuplicates, NearlyAllAreFoundAndNoneByChance) {
  std::vector<Record> records;
  for (int i = 0; i < 400; ++i) records.push_back(text_record(words(static_cast<uint64_t>(i), 104), i));
  for (int i = 0; i < 400; ++i)
    records.push_back(text_record(words(static_cast<uint64_t>(i), 104, 10), 400 + i));
  const auto found = find(records, 0.8);
  EXPECT_GE(found.pairs.size(), 384u);  // 1 - (1 - 0.818^6)^20 is 0.9997
  for (const auto& [row, earlier] : found.pairs) EXPECT_EQ(row, earlier + 400);
}

TEST(NearDuplicates, CaseMarksAndShortTexts) {
  EXPECT_EQ(find({text_record("The fee is due.", 1), text_record("the FEE, is due", 2),
                  text_record("The fee is paid.", 3), text_record("!", 4), text_record("?", 5)},
                 0.8)
                .pairs,
            (std::vector<std::pair<int64_t, int64_t>>{{1, 0}, {4, 3}}));
  const std::string law = "本院认为被告应当承担全部违约责任并赔偿原告因此遭受的全部经济损失共计人民币一万元";
  EXPECT_EQ(find({text_record(law, 1), text_record(law + "。", 2)}, 0.9).pairs.size(), 1u);
}

TEST(NearDuplicates, TenThousandEqualRecordsAreOneGroup) {
  std::vector<Record> records;
  for (int i = 0; i < 10000; ++i) records.push_back(text_record("all of them say the very same thing", i));
  EXPECT_EQ(find(records, 0.8).pairs.size(), 9999u);
}

TEST(NearDuplicates, AreLeftOutBeforeTheSplitAndHeldOutSourcesStay) {
  TemporaryFolder folder;
  DataSpec spec;
  spec.sources.resize(2);
  spec.held_out.fraction = 0;
  const auto line = [](const std::string& text) { return "{\"text\":\"" + text + "\"}\n"; };
  spec.sources[0].path = folder.write(
      "a.jsonl", line(words(1, 60)) + line(words(1, 60, 1)) + line(words(2, 60)) + line(words(3, 60)));
  spec.sources[1].path = folder.write("b.jsonl", line(words(3, 60, 1)) + line(words(3, 60)));
  spec.sources[1].use = "held_out";
  const SourceFiles files(spec.sources);
  EXPECT_EQ(plan_records(spec, files).sources[0].records, 4);
  spec.near_duplicates.remove = true;
  const auto plan = plan_records(spec, files);
  EXPECT_EQ(plan.near_duplicates, 2);
  std::string sides;
  for (const auto& row : plan.rows)
    sides += row.side == Side::train ? 't' : row.side == Side::held_out ? 'h' : '-';
  EXPECT_EQ(sides, "t-t-hh");  // the copy of what is held out goes, though it stands first
  EXPECT_EQ(left_out_lines(plan),
            (std::vector<std::string>{
                "2 records left out that are nearly the same as another (data.near_duplicates.remove)"}));
}

std::string kinds(const std::string& text) {
  constexpr const char* kShort = "epickab";
  std::string found;
  for (size_t k = 0; k < kPersonalKinds; ++k)
    if (personal_data(text, "x:1") >> k & 1) found += kShort[k];
  return found;
}

// e: e-mail, p: phone, i: IBAN, c: card, k: national number, a: IP address, b: birth date. Numbers are the
// published examples of their makers.
TEST(PersonalData, IsFoundByFormAndCheckDigits) {
  const std::pair<const char*, const char*> cases[] = {
      {"write to jane.doe+x@mail.example.org today", "e"},
      {"she wrote @home and x@y", ""},
      {"call +49 (0)30 901820 now", "p"},
      {"call +1 650-253-0000", "p"},
      {"Tel.: 030 901 820", "p"},
      {"(650) 253-0000", "p"},
      {"the sum of 030 901 820 units", ""},
      {"DE89 3704 0044 0532 0130 00", "i"},
      {"GB82WEST12345698765432", "i"},
      {"DE88 3704 0044 0532 0130 00", ""},
      {"4111 1111 1111 1111", "c"},
      {"4111 1111 1111 1112", ""},
      {"5555555555554444", "c"},
      {"078-05-1120", "k"},
      {"000-05-1120", ""},
      {"666-05-1120 and 078-00-1120", ""},
      {"Steuer-ID 86 095 742 719", "k"},
      {"86 095 742 718", ""},
      {"2 55 08 14 168 025 38", "k"},
      {"2 55 08 14 168 025 39", ""},
      {"12345678Z", "k"},
      {"12345678A", ""},
      {"X1234567L", "k"},
      {"RSSMRA85T10A562S", "k"},
      {"756.9217.0769.85", "k"},
      {"756.9217.0769.84", ""},
      {"111.444.777-35", "k"},
      {"111.444.777-36", ""},
      {"from 93.184.216.34", "a"},
      {"127.0.0.1 and 1.2.3.400 and 1.2.3.4.5", ""},
      {"born 12 March 1961 in Bonn", "b"},
      {"geb. 1.2.1990", "b"},
      {"E11.65, 12.5 mg, 2024-01-02, page 1234", ""},
      {"ISBN 978-3-16-148410-0", ""},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(kinds(text), expected) << text;
  EXPECT_EQ(kinds(std::string(size_t{1} << 20, '1')), "");
  EXPECT_EQ(kinds(std::string(size_t{1} << 18, 'a') + "@"), "");
}

TEST(PersonalData, NamesOfColumnsSayIt) {
  for (const char* name :
       {"email", "patientName", "Patient_ID", "birth-date", "first name", "DOB", "Anschrift"})
    EXPECT_TRUE(names_a_person(name)) << name;
  for (const char* name : {"name", "filename", "question", "model_name", "emails_sent_count_x", "text"})
    EXPECT_FALSE(names_a_person(name)) << name;
}

TEST(PersonalData, RecordsAreCountedNamedAndLeftOutWithoutTheirText) {
  TemporaryFolder folder;
  DataSpec spec;
  spec.sources.resize(1);
  spec.held_out.fraction = 0;
  spec.sources[0].path = folder.write("a.csv", "q,a,email\nwho?,ask CANARY@example.org,x\nwhat?,that,y\n");
  spec.sources[0].prompt = "{q}";
  spec.sources[0].completion = "{a}";
  const SourceFiles files(spec.sources);
  auto plan = plan_records(spec, files);
  EXPECT_EQ(plan.records, 2);
  const auto text = describe(find_personal_data(files, plan));
  EXPECT_NE(text.find("personal data in 1 record: an e-mail address in 1 ("), std::string::npos) << text;
  EXPECT_NE(text.find("a.csv:2"), std::string::npos) << text;
  EXPECT_NE(text.find("columns whose names say that a person is meant: email"), std::string::npos) << text;
  EXPECT_EQ(text.find("CANARY"), std::string::npos);
  spec.personal_data = "leave_out";
  plan = plan_records(spec, files);
  EXPECT_EQ(plan.records, 1);
  EXPECT_EQ(plan.personal, 1);
  EXPECT_EQ(describe(find_personal_data(files, plan)).find("personal data in"), std::string::npos);
}

}  // namespace
}  // namespace retort
