#include "data/unused_columns.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/look_at_source.h"
#include "data/record.h"
#include "data/temporary_folder.h"

namespace retort {
namespace {

using Names = std::vector<std::string>;

// What `retort init` leaves aside of a file with this line, eight times.
Names unused_of(std::string_view name, const std::string& line, const std::string& head = "") {
  TemporaryFolder folder;
  auto text = head;
  for (int i = 0; i < 8; ++i) text += line + "\n";
  return look_at_source(folder.write(name, text)).unused;
}

TEST(UnusedColumns, OfTablesAreThoseThatNoPatternNames) {
  EXPECT_EQ(unused_of("a.csv", "C-1,Payable in 45 days.,When?,in 45 days,",
                      "contract,clause,question,answer,note\n"),
            (Names{"contract", "clause", "note (empty)"}));
  EXPECT_EQ(unused_of("b.jsonl", R"({"": 0, "context": "It is due.", "question": "When?", "answer": "now"})"),
            (Names{"a column without a name"}));
  EXPECT_EQ(unused_of("c.jsonl", R"({"prompt": "Why?", "chosen": "So.", "rejected": "No."})"),
            (Names{"rejected"}));
}

// A dot in a column's name makes it no member of another column.
TEST(UnusedColumns, NamesMayHaveDots) {
  EXPECT_EQ(unused_of("a.csv", "When?,now,3", "question,answer,answer.start\n"), (Names{"answer.start"}));
}

// A list is taken as a whole, of an object only what is named.
TEST(UnusedColumns, OfObjectsAreTheMembersThatNoPatternReaches) {
  EXPECT_EQ(
      unused_of("a.jsonl", R"({"id": 1, "sample": {"question": "Why?", "answer": "So.", "hints": ["a"],)"
                           R"( "more": {"deep": 1}}, "meta": {"by": "us"}})"),
      (Names{"id", "sample.hints", "sample.more", "meta"}));
  EXPECT_EQ(
      unused_of("b.jsonl",
                R"({"question": "Why?", "answers": {"text": ["So."], "answer_start": [1]}, "context": "x"})"),
      (Names{"answers.answer_start"}));
}

TEST(UnusedColumns, OfKindsAreTheKeysThatTheirReaderDoesNotKnow) {
  EXPECT_EQ(
      unused_of("a.jsonl", R"({"id": 1, "system": "Be brief.", "tools": [], "messages": [)"
                           R"({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"),
      (Names{"id"}));
  EXPECT_EQ(
      unused_of("b.jsonl", R"({"turns": [{"who": "user", "said": "a"}, {"who": "assistant", "said": "b"}],)"
                           R"( "topic": "x"})"),
      (Names{"topic"}));
  EXPECT_EQ(unused_of("c.jsonl",
                      R"({"instruction": "a", "input": "", "output": "b", "history": [], "lang": "en"})"),
            (Names{"lang"}));
  EXPECT_EQ(unused_of("d.jsonl", R"({"text": "A long text.", "source": "us"})"), (Names{"source"}));
  EXPECT_EQ(unused_of("e.txt", "A text."), Names{});
}

// What the first record is, all of them are read as; other keys of later ones are left aside.
TEST(UnusedColumns, TheFirstRecordSaysWhatTheKindIs) {
  TemporaryFolder folder;
  const std::string first = R"({"prompt": "a", "completion": "b"})"
                            "\n";
  const std::string later =
      R"({"prompt": "c", "completion": "d", "text": "e", "messages": [], "conversations": []})";
  const auto look = look_at_source(folder.write("a.jsonl", first + later + "\n"));
  EXPECT_EQ(look.records, 2);
  EXPECT_EQ(look.unused, (Names{"text", "messages", "conversations"}));
}

// A first record that is none of any kind is a bad record, and the next one says what the kind is.
TEST(UnusedColumns, AFirstRecordOfNoKindIsLeftOut) {
  TemporaryFolder folder;
  std::string lines = R"({"header": "made by us"})"
                      "\n";
  for (int i = 0; i < 8; ++i)
    lines += R"({"prompt": "a", "completion": "b", "lang": "en"})"
             "\n";
  const auto look = look_at_source(folder.write("a.jsonl", lines));
  EXPECT_EQ(look.records, 8);
  EXPECT_EQ(look.source.on_bad_record, "skip");
  EXPECT_EQ(look.unused, (Names{"header", "lang"}));
}

// KTO's label is heard; a label of another kind is a column like others.
TEST(UnusedColumns, KeysThatSayWhatIsLearnedAreUsed) {
  EXPECT_EQ(unused_of("a.jsonl", R"({"prompt": "a", "completion": "b", "label": true})"), Names{});
  EXPECT_EQ(unused_of("b.jsonl", R"({"prompt": "a", "completion": "b", "label": "sports"})"),
            (Names{"label"}));
}

TEST(Placeholders, NamesAreWithoutLimits) {
  EXPECT_EQ(placeholder_names("{a:80} {{no}} {b.c[*: ]}\n{d}", "k"), (Names{"a", "b.c[*: ]", "d"}));
  EXPECT_THROW(placeholder_names("{a", "k"), RecipeError);
}

}  // namespace
}  // namespace retort
