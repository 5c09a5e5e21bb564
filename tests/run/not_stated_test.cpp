#include "run/not_stated.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

std::vector<std::string> keys(const StatedKeys& stated) {
  std::vector<std::string> names;
  for (const auto& gap : stated.empty) names.push_back(gap.key);
  return names;
}

TEST(NotStated, NamesEveryKeyOfTheCardThatIsEmpty) {
  const auto nothing = stated_keys(Recipe());
  EXPECT_EQ(nothing.asked, 25);
  EXPECT_EQ(keys(nothing), (std::vector<std::string>{"about",
                                                     "eval.tasks",
                                                     "gate",
                                                     "card.license",
                                                     "card.base_model",
                                                     "card.datasets",
                                                     "card.data_license",
                                                     "card.languages",
                                                     "card.tags",
                                                     "card.intended_use",
                                                     "card.limits",
                                                     "card.base_training_flops",
                                                     "card.supplier.name",
                                                     "card.supplier.url",
                                                     "card.supplier.contact",
                                                     "card.domain",
                                                     "card.autonomy",
                                                     "card.standards",
                                                     "card.ethics",
                                                     "card.risk_assessment",
                                                     "card.explainability",
                                                     "card.personal_data",
                                                     "card.energy_kwh",
                                                     "card.repository",
                                                     "card.website"}));
}

TEST(NotStated, WhatIsStatedIsNotListed) {
  Recipe recipe;
  recipe.about = "Notes to codes";
  recipe.eval.tasks.emplace_back();
  recipe.gate.emplace_back();
  auto& card = recipe.card;
  for (auto* text :
       {&card.license, &card.base_model, &card.data_license, &card.intended_use, &card.limits, &card.domain,
        &card.autonomy, &card.standards, &card.ethics, &card.risk_assessment, &card.explainability,
        &card.personal_data, &card.repository, &card.website, &card.supplier.name, &card.supplier.url})
    *text = "said";
  card.datasets = card.languages = card.tags = {"one"};
  card.base_training_flops = 1e21;
  EXPECT_EQ(keys(stated_keys(recipe)),
            (std::vector<std::string>{"card.supplier.contact", "card.energy_kwh"}));
  const auto table = not_stated_table(recipe);
  EXPECT_TRUE(table.note.find("25 things that only the recipe can say; 2 of them are empty") !=
              table.note.npos)
      << table.note;
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0],
            (std::vector<std::string>{"card.supplier.contact", "whom to ask: an e-mail address or a name"}));
}

}  // namespace
}  // namespace retort
