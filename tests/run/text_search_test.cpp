#include "run/text_search.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

TEST(TextSearch, FindsAPieceOfATextWhereverItStands) {
  TextSearch search;
  search.add("Seen on Monday with a cough that began three weeks ago.", true);
  search.close("");
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
  TextSearch search;
  search.add(instruction + "Fever since the second of May, none before.", true);
  search.add(instruction + "Broke a wrist when falling from a ladder.", true);
  search.close("");
  EXPECT_FALSE(search.finds_any("template: " + instruction));
  EXPECT_TRUE(search.finds_any("He: Broke a wrist when falling from a ladder."));

  TextSearch answers;  // which repeat, and are classes: their names are texts
  for (int i = 0; i < 2; ++i) answers.add("Malignant neoplasm of the lip", false);
  answers.close("");
  EXPECT_TRUE(answers.finds_any("class: Malignant neoplasm of the lip"));

  TextSearch known;
  known.add("Malignant neoplasm of the lip", false);
  known.close("about: Malignant neoplasm of the lip");
  EXPECT_EQ(known.pieces(), 0u);
}

// What JSON or HTML write otherwise is not looked for, nor is what could be anybody's.
TEST(TextSearch, PiecesStandTheSameInJsonAndHtml) {
  TextSearch search;
  search.add("\"quoted\" & <escaped> \n 'twice' \"again\" & <more>", true);
  search.add("----------------------------------------------", true);
  search.add("short", true);
  search.close("");
  EXPECT_EQ(search.pieces(), 0u);
}

}  // namespace
}  // namespace retort
