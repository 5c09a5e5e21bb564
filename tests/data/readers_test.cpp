#include "data/readers.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "fuzz/damage.h"
#include "text/unicode.h"

namespace retort {
namespace {

// The error's text, or "" when nothing was thrown.
template <class Action> std::string problem(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::bad_input);
    return error.what();
  }
  return "";
}

std::vector<std::string> texts(std::string_view content) {
  std::vector<std::string> out;
  read_json_lines(content, "f.jsonl", [&](const Json& object, std::string place) {
    out.push_back(place + " " + object["text"].get<std::string>());
  });
  return out;
}

struct Case {
  std::string_view what, content, expected;  // expected: part of the error
};

TEST(JsonLines, AcceptsBomCrlfBlankLinesAndAMissingLastNewline) {
  const auto found =
      texts("\xEF\xBB\xBF{\"text\":\"a\"}\r\n\r\n  \n{\"text\":\"\\u00e9\\ud83d\\ude00\"}\n{\"text\":\"c\"}");
  EXPECT_EQ(found,
            (std::vector<std::string>{"f.jsonl:1 a", "f.jsonl:4 \xC3\xA9\xF0\x9F\x98\x80", "f.jsonl:5 c"}));
}

TEST(JsonLines, RefusesWhatIsBrokenWithTheLineNumber) {
  const std::string nul("{\"text\":\"a\"}\n{\"text\":\"b\0\"}\n", 27);
  const std::string deep = "{\"text\":" + std::string(100000, '[');
  const std::string huge = "{\"text\":\"a\"}\n{\"text\":\"" + std::string(kLongestLine, 'x') + "\"}\n";
  const Case cases[] = {
      {"empty file", "", "f.jsonl: holds no records"},
      {"blank file", "\n \r\n\n", "f.jsonl: holds no records"},
      {"only a BOM", "\xEF\xBB\xBF", "f.jsonl: holds no records"},
      {"NUL", nul, "f.jsonl:2: NUL byte at byte 10"},
      {"bad UTF-8", "{\"text\":\"\xFF\"}\n", "f.jsonl:1: invalid UTF-8 at byte 9"},
      {"truncated UTF-8", "{\"text\":\"\xE2\x82\"}\n", "f.jsonl:1: invalid UTF-8"},
      {"overlong UTF-8", "{\"text\":\"\xC0\xAF\"}\n", "f.jsonl:1: invalid UTF-8"},
      {"surrogate in UTF-8", "{\"text\":\"\xED\xA0\x80\"}\n", "f.jsonl:1: invalid UTF-8"},
      {"lone high surrogate", "{\"text\":\"\\ud800\"}\n", "f.jsonl:1: byte"},
      {"lone low surrogate", "{\"text\":\"\\udc00x\"}\n", "f.jsonl:1: byte"},
      {"huge line", huge, "f.jsonl:2: line of 16777"},
      {"deep nesting", deep, "nested deeper than 64"},
      {"duplicate key", "{\"text\":\"a\",\"text\":\"b\"}\n", "f.jsonl:1: text: this key stands twice"},
      {"truncated", "{\"text\":\"a\"}\n{\"text\":\"b", "f.jsonl:2: byte"},
      {"not an object", "{\"text\":\"a\"}\n[1]\n",
       "f.jsonl:2: expected a JSON object on each line, found array"},
      {"two on a line", "{\"text\":\"a\"}{\"text\":\"b\"}\n", "f.jsonl:1: byte"},
      {"UTF-16", "\xFF\xFE{\0", "f.jsonl:1: invalid UTF-8"},
  };
  for (const auto& one : cases)
    EXPECT_NE(problem([&] { texts(one.content); }).find(one.expected), std::string::npos)
        << one.what << ": " << problem([&] { texts(one.content); });
}

std::vector<std::string> rows(std::string_view content, char delimiter = ',') {
  std::vector<std::string> out;
  read_csv(content, "f.csv", delimiter, [&](Columns columns, std::string place) {
    std::string row = place;
    for (const auto& [name, value] : columns) row += " " + name + "=" + value;
    out.push_back(row);
  });
  return out;
}

TEST(Csv, ReadsQuotesNewlinesAndBom) {
  EXPECT_EQ(
      rows("\xEF\xBB\xBFq,a\r\n\"x, \"\"y\"\"\",1\r\n\"two\nlines\",\"\"\nlast,3"),
      (std::vector<std::string>{"f.csv:2 q=x, \"y\" a=1", "f.csv:3 q=two\nlines a=", "f.csv:5 q=last a=3"}));
  EXPECT_EQ(rows("q\ta\n1,2\t3\n", '\t'), (std::vector<std::string>{"f.csv:2 q=1,2 a=3"}));
  EXPECT_EQ(rows("q,a\n1,\n\n,2\n"), (std::vector<std::string>{"f.csv:2 q=1 a=", "f.csv:4 q= a=2"}));
}

TEST(Csv, RefusesWhatIsBrokenWithTheLineNumber) {
  const std::string nul("q,a\nx,\0\n", 8);
  const std::string long_text(kLongestLine, 'x');
  const std::string huge = "q,a\n1,2\n3," + long_text + "\n", open = "q,a\n1,2\n3,\"" + long_text;
  const std::string wide = "q,a\n1,2\n3" + std::string(size_t{1} << 20, ',') + "\n";
  const Case cases[] = {
      {"huge field", huge, "f.csv:3: record of more than 16777216 bytes"},
      {"huge field in quotes", open, "f.csv:3: record of more than 16777216 bytes"},
      {"millions of fields", wide, "f.csv:3: row of more than 1048576 fields"},
      {"empty", "", "f.csv: is empty"},
      {"header only", "q,a\n", "f.csv: holds a header but no rows"},
      {"too few fields", "q,a\n1,2\n3\n", "f.csv:3: 1 fields; the header names 2"},
      {"too many fields", "q,a\n1,2,3\n", "f.csv:2: 3 fields"},
      {"line counted past embedded newlines", "q,a\n\"1\n1\",2\n3\n", "f.csv:4: 1 fields"},
      {"missing quote", "q,a\n1,2\n\"3,4\n5,6\n",
       "f.csv:3: field that begins in line 3: closing quote is missing"},
      {"text after quote", "q,a\n\"1\"x,2\n", "f.csv:2: text after a closing quote"},
      {"stray quote", "q,a\n1\"x,2\n", "f.csv:2: quote inside a field"},
      {"same name twice", "q,q\n1,2\n", "f.csv:1: q: two columns"},
      {"column without a name", "q,\n1,2\n", "f.csv:1: header: a column has no name"},
      {"NUL", nul, "f.csv:2: a: NUL byte"},
      {"bad UTF-8", "q,a\n1,\xC3\n", "f.csv:2: a: invalid UTF-8"},
  };
  for (const auto& one : cases)
    EXPECT_NE(problem([&] { rows(one.content); }).find(one.expected), std::string::npos)
        << one.what << ": " << problem([&] { rows(one.content); });
}

constexpr std::string_view kList = R"(<?xml version="1.0" encoding="utf-8"?>
<!-- a comment -->
<ICD10CM.tabular><version>2026</version>
 <chapter><name>4</name><desc>Endocrine diseases (E00-E89)</desc>
  <section id="E08-E13"><desc>Diabetes mellitus (E08-E13)</desc>
   <diag><name>E11</name><desc>Type 2 diabetes &amp; more</desc><includes><note>not a term</note></includes>
    <diag><name>E11.0</name><desc>  with
       hyperosmolarity &#233;</desc>
     <inclusionTerm><note>Term one</note><note>Term &#x32;</note></inclusionTerm></diag>
   </diag>
   <diag placeholder="a>b"><name>E13</name><desc>Other</desc><visMax/></diag>
  </section></chapter>
</ICD10CM.tabular>
)";

std::vector<std::string> diagnoses(std::string_view content) {
  std::vector<std::string> out;
  read_icd10cm(content, "f.xml", [&](const Columns& columns, const std::string& place) {
    std::string row = place;
    for (const auto& [name, value] : columns) row += "|" + value;
    out.push_back(row);
  });
  return out;
}

TEST(Icd10cm, ReadsCodesWithCategoryChapterAndTerms) {
  EXPECT_EQ(diagnoses(kList), (std::vector<std::string>{
                                  "f.xml:E11|E11|Type 2 diabetes & more|E11|Type 2 diabetes & more|Diabetes "
                                  "mellitus|4|Endocrine diseases|",
                                  "f.xml:E11.0|E11.0|with hyperosmolarity \xC3\xA9|E11|Type 2 diabetes & "
                                  "more|Diabetes mellitus|4|Endocrine diseases|Term one; Term 2",
                                  "f.xml:E13|E13|Other|E13|Other|Diabetes mellitus|4|Endocrine diseases|",
                              }));
}

TEST(Icd10cm, RefusesHostileXml) {
  std::string deep = "<ICD10CM.tabular>";
  for (int i = 0; i < 100000; ++i) deep += "<note>";
  const Case cases[] = {
      {"empty", "", "holds no diagnoses"},
      {"another vocabulary", "<html></html>", "expected <ICD10CM.tabular>"},
      {"document type", "<!DOCTYPE a [<!ENTITY x \"y\">]><ICD10CM.tabular/>",
       "document types and CDATA are not read"},
      {"unknown entity", "<ICD10CM.tabular><version>&laugh;</version></ICD10CM.tabular>", "unknown entity"},
      {"surrogate reference", "<ICD10CM.tabular>&#xD800;</ICD10CM.tabular>",
       "character reference out of range"},
      {"huge reference", "<ICD10CM.tabular>&#99999999;</ICD10CM.tabular>",
       "character reference out of range"},
      {"truncated", kList.substr(0, 320), "is the download complete?"},
      {"truncated tag", "<ICD10CM.tabular><dia", "tag without '>'"},
      {"crossed tags", "<ICD10CM.tabular><a></b></ICD10CM.tabular>", "closes no open element"},
      {"deep", deep, "nested deeper than 32"},
      {"no code", "<ICD10CM.tabular><diag><desc>x</desc></diag></ICD10CM.tabular>", "without a code"},
      {"open comment", "<!-- ", "'<!--' without '-->'"},
  };
  for (const auto& one : cases)
    EXPECT_NE(problem([&] { diagnoses(one.content); }).find(one.expected), std::string::npos)
        << one.what << ": " << problem([&] { diagnoses(one.content); });
}

TEST(Icd10cm, EveryPrefixOfAFileIsReadOrRefused) {
  for (size_t length = 0; length < kList.size(); ++length) {
    std::string hostile(kList.substr(0, length));
    problem([&] { diagnoses(hostile); });
    if (length < kList.size()) {
      std::string flipped(kList);
      flipped[length] = static_cast<char>(flipped[length] ^ 0x11);
      problem([&] { diagnoses(flipped); });
    }
  }
}

Columns licence(std::string_view content) {
  Columns found;
  read_licence(content, "f.LICENSE",
               [&](Columns columns, const std::string&) { found = std::move(columns); });
  return found;
}

TEST(Licences, ReadFrontMatterAndText) {
  const auto columns = licence(
      "---\r\nkey: x-1.0\nname: \"X: the licence\"\ncategory: Copyleft\nis_exception: yes\nowner: "
      "Me\nother_urls:\n  - http://a: b\n"
      "osi_url: http://o\n---\n\n  Redistributions must retain the\n  above Copyright Notice.\n---\nstill "
      "text\n");
  std::string row;
  for (const auto& [name, value] : columns) row += name + "=" + value + "|";
  EXPECT_EQ(
      row,
      "key=x-1.0|name=X: the licence|short_name=|category=Copyleft|owner=Me|spdx=|is_exception=yes|osi=yes|"
      "obligations=keep notices; disclose source; same licence for the whole|text=Redistributions must "
      "retain the\n  above Copyright Notice.\n---\nstill text|");
  EXPECT_EQ(licence_obligations("Public Domain", "Do what you like."), "none");
}

TEST(Licences, RefuseBrokenFrontMatter) {
  const Case cases[] = {
      {"none", "MIT\n", "expected '---'"},
      {"empty", "", "expected '---'"},
      {"not closed", "---\nkey: a\ncategory: b\n", "no closing '---'"},
      {"twice", "---\nkey: a\nkey: b\ncategory: c\n---\n", "f.LICENSE:3: key: stands twice"},
      {"no category", "---\nkey: a\n---\n", "needs 'key' and 'category'"},
      {"bad UTF-8", "---\nkey: \xFF\n---\n", "invalid UTF-8"},
  };
  for (const auto& one : cases)
    EXPECT_NE(problem([&] { licence(one.content); }).find(one.expected), std::string::npos)
        << one.what << ": " << problem([&] { licence(one.content); });
}

// Seeded damage: every reader delivers rows of valid text, or refuses with one line.
TEST(Readers, DamagedFilesAreReadOrRefused) {
  const auto valid = [](const Columns& columns, const std::string& place) {
    for (const auto& [name, value] : columns) {
      EXPECT_TRUE(valid_utf8(name) && valid_utf8(value)) << place;
      EXPECT_EQ(value.find('\0'), std::string::npos) << place;
    }
  };
  struct Reader {
    std::string_view name;
    std::string whole;
    std::function<void(std::string_view)> read;
  };
  const std::vector<Reader> readers = {
      {"jsonl",
       "{\"text\":\"a "
       "\\u00e9\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"n\":-1.5e3}\r\n{\"x\":[[1],{"
       "\"y\":null}]}\n",
       [](std::string_view content) {
         read_json_lines(content, "f", [](const Json&, const std::string&) {});
       }},
      {"csv", "question,\"a, b\",c\n1,\"two \"\"quoted\"\" words\",\xC3\xA9\n\"line\nbreak\",,3\r\n",
       [&](std::string_view content) { read_csv(content, "f", ',', valid); }},
      {"icd10cm", std::string(kList), [&](std::string_view content) { read_icd10cm(content, "f", valid); }},
      {"licence",
       "---\nkey: x-1.0\nname: \"X: it\"\ncategory: Copyleft\nother_urls:\n  - "
       "http://a\n---\n\nRedistribute.\n",
       [&](std::string_view content) { read_licence(content, "f", valid); }},
  };
  for (const auto& reader : readers) {
    int accepted = 0, refused = 0;
    for (uint64_t i = 0; i < 2000; ++i) {
      const auto content = damaged(reader.whole, reader.name, i, "\"{}[],:\n\r<>&;-\\ 0\xFF\xC3");
      try {
        reader.read(content);
        ++accepted;
      } catch (const FormatError& error) {
        ++refused;
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
      }
    }
    EXPECT_GT(accepted, 50) << reader.name;
    EXPECT_GT(refused, 200) << reader.name;
  }
}

}  // namespace
}  // namespace retort
