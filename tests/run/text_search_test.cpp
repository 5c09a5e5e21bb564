#include "run/text_search.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"

namespace retort {
namespace {

TextSearch search_of(const std::vector<std::string>& texts, bool own, const std::string& known = "") {
  TextSearch search;
  for (const auto& text : texts) search.add(text, own);
  for (const auto& text : texts) search.count(text);
  search.close(known);
  return search;
}

TEST(TextSearch, FindsAPieceOfATextWhereverItStands) {
  const auto search = search_of({"Seen on Monday with a cough that began three weeks ago."}, true);
  EXPECT_GT(search.pieces(), 0u);
  const std::string noise(100000, 'x');
  EXPECT_FALSE(search.finds_any(noise));
  EXPECT_TRUE(search.finds_any(noise + "a cough that began three weeks ago." + noise));
  EXPECT_TRUE(search.finds_any("\"asked\": \"Seen on Monday with a cough that began three weeks ago.\""));
  EXPECT_FALSE(search.finds_any("three weeks ago"));  // shorter than a piece
  EXPECT_FALSE(search.finds_any(""));
}

// An instruction stands before every record's text, and a recipe holds it too.
TEST(TextSearch, WhatSeveralTextsBeginWithIsNobodysOwn) {
  const std::string instruction = "Give the code of the diagnosis in this note. ";
  const auto search = search_of({instruction + "Fever since the second of May, none before.",
                                 instruction + "Broke a wrist when falling from a ladder."},
                                true);
  EXPECT_FALSE(search.finds_any("template: " + instruction));
  EXPECT_TRUE(search.finds_any("He: Broke a wrist when falling from a ladder."));

  // Answers repeat and are classes then, whose names are texts.
  const std::string answer = "Malignant neoplasm of the lip";
  const auto answers = search_of({answer, answer}, false);
  EXPECT_TRUE(answers.finds_any("class: Malignant neoplasm of the lip"));

  EXPECT_EQ(search_of({answer}, false, "about: " + answer).pieces(), 0u);
}

// What JSON or HTML write otherwise is not looked for, nor is what could be anybody's.
TEST(TextSearch, PiecesStandTheSameInJsonAndHtml) {
  const auto search = search_of({"\"quoted\" & <escaped> \n 'twice' \"again\" & <more>",
                                 "----------------------------------------------", "short"},
                                true);
  EXPECT_EQ(search.pieces(), 0u);
}

// A held-out source and canaries stand behind a large source, which has more pieces than are looked for.
TEST(TextSearch, OfMoreTextsThanAreLookedForLateOnesHaveTheirShare) {
  constexpr int kTexts = 50000;
  const auto text_of = [](int i) {
    std::string text;
    for (int part = 0; part < 6; ++part)  // 24 bytes each: they are the pieces
      text += fmt::format("{:016x} noted, ", mix_bits(static_cast<uint64_t>(6 * i + part)));
    return text;
  };
  const std::string canary = "The quartz door opens at half past nine to whoever brings a fern.";
  TextSearch search;
  for (int i = 0; i < kTexts; ++i) search.add(text_of(i), false);
  search.add(canary, false, TextSearch::Pieces::all);
  for (int i = 0; i < kTexts; ++i) search.count(text_of(i));
  search.count(canary);
  search.close("");
  EXPECT_EQ(search.share(), 0.5);
  EXPECT_LE(search.pieces(), TextSearch::kMostPieces);
  EXPECT_TRUE(search.finds_any("\"got\": \"" + canary + "\""));
  // 6 pieces of a text, of each the half is looked for: 1 text of 64 has none.
  int first = 0, last = 0;
  for (int i = 0; i < 640; ++i) {
    first += search.finds_any(text_of(i));
    last += search.finds_any(text_of(kTexts - 1 - i));
  }
  EXPECT_NEAR(first, 630, 15);
  EXPECT_NEAR(last, 630, 15);

  TextSearch small(100);
  for (int i = 0; i < 1000; ++i) small.add(text_of(i), false);
  small.add(canary, false, TextSearch::Pieces::all);
  small.close("");
  EXPECT_GT(small.share(), 0.0);
  EXPECT_LT(small.share(), 0.05);
  EXPECT_TRUE(small.finds_any(canary));
  EXPECT_EQ(search_of({canary}, false).share(), 1.0);
}

}  // namespace
}  // namespace retort
