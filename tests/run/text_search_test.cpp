#include "run/text_search.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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

}  // namespace
}  // namespace retort
