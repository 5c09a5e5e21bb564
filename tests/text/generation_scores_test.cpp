#include "text/generation_scores.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "where.h"  // tests

namespace retort {
namespace {

// Values of sacrebleu 2.6.0 and rouge-score 0.1.2 (tools/golden/generation_scores.py).
TEST(GenerationScores, EqualTheirReferencePrograms) {
  const auto golden = read_json(std::filesystem::path(source_dir()) / "tests/golden/generation_scores.json");
  for (const auto& [text, tokens] : golden["tokens"].items())
    EXPECT_EQ(bleu_tokens(text), tokens.get<std::vector<std::string>>()) << text;
  ASSERT_GE(golden["cases"].size(), 16u);
  for (const auto& one : golden["cases"]) {
    Bleu bleu;
    Chrf chrf;
    for (size_t i = 0; i < one["expected"].size(); ++i) {
      const auto expected = one["expected"][i].get<std::string>(), got = one["got"][i].get<std::string>();
      bleu.add(expected, got);
      chrf.add(expected, got);
      EXPECT_NEAR(rouge_l(expected, got), one["rouge_l"][i].get<double>(), 1e-12) << expected << " / " << got;
    }
    EXPECT_NEAR(bleu.score(), one["bleu"].get<double>(), 1e-9) << one.dump();
    EXPECT_NEAR(chrf.score(), one["chrf"].get<double>(), 1e-9) << one.dump();
  }
}

TEST(GenerationScores, AnswersThatEndInsideACharacterAreScored) {
  Bleu bleu;
  Chrf chrf;
  bleu.add("\u00e9t\u00e9 is summer", "\u00e9t\u00e9 is \xC3");
  chrf.add("\u00e9t\u00e9", "\u00e9t\xC3");
  EXPECT_GT(chrf.score(), 0);
  EXPECT_EQ(bleu.score(), bleu.score());
  EXPECT_EQ(rouge_l("", ""), 0);
  EXPECT_EQ(Bleu().score(), 0);
  EXPECT_EQ(Chrf().score(), 0);
}

TEST(Citations, EachQuotedPassageMustStandInTheAnswer) {
  EXPECT_TRUE(holds_citations("see \"No warranty is given\"", "It says: no  warranty\nis given, so no."));
  EXPECT_FALSE(holds_citations("\"No warranty\" and \"as is\"", "No warranty"));
  EXPECT_TRUE(holds_citations("\"No warranty\" and \"as is\"", "as is, no warranty"));
  EXPECT_TRUE(
      holds_citations("§ 433 BGB: „Der Verkäufer wird verpflichtet“", "DER VERKÄUFER WIRD VERPFLICHTET"));
  EXPECT_FALSE(holds_citations("「应当驳回」", "驳回"));
  EXPECT_TRUE(holds_citations("「应当驳回」", "本院认为应当驳回"));
  EXPECT_TRUE(holds_citations("E11", "the code is E11"));
  EXPECT_FALSE(holds_citations("E11", "the code is E1"));
  EXPECT_TRUE(holds_citations("an open \"quote", "an open \"quote"));
}

}  // namespace
}  // namespace retort
