// adapter.from: what is left out is taken from the adapter, what is written otherwise is a problem at its
// place.
#include "recipe/from_adapter.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "recipe/recipe.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::string adapter(const std::string& name) {
  return (std::filesystem::path(source_dir()) / "tests/golden/adapters" / name).string();
}
LoadedRecipe parsed(const std::string& section, const std::string& more = "") {
  return parse_recipe("model: {path: a.gguf}\nadapter: {" + section + "}\n" + more, "r.yaml");
}
std::string error_of(const std::string& section, const std::string& more = "") {
  try {
    parsed(section, more);
  } catch (const RecipeError& error) { return error.what(); }
  return "accepted";
}

TEST(FromAdapter, TakesWhatIsLeftOut) {
  const auto loaded = parsed("from: " + adapter("rslora"));
  const auto& spec = loaded.recipe.adapter;
  EXPECT_EQ(spec.kind, "rslora");
  EXPECT_EQ(spec.rank, 4);
  EXPECT_EQ(spec.alpha, 5);
  EXPECT_EQ(spec.targets, (std::vector<std::string>{"up_proj", "q_proj"}));
  // The resolved recipe says all of it, and reads back equal.
  EXPECT_EQ(parse_recipe(loaded.resolved, "resolved").resolved, loaded.resolved);
  EXPECT_EQ(parsed("from: " + adapter("mlx")).recipe.adapter.alpha, 7.5);  // scale 2.5 of rank 3
  EXPECT_EQ(parsed("rank: 4, alpha: 5, dropout: 0.1, from: " + adapter("rslora")).recipe.adapter.dropout,
            0.1);
}

TEST(FromAdapter, WhatDiffersIsNamedAtItsPlace) {
  const auto from = ", from: " + adapter("rslora");
  EXPECT_NE(error_of("rank: 8" + from).find("r.yaml:2:17: adapter.rank: the adapter that it starts from ("),
            std::string::npos)
      << error_of("rank: 8" + from);
  EXPECT_NE(error_of("rank: 8" + from).find("has 4, found 8; leave the key out"), std::string::npos);
  EXPECT_NE(error_of("alpha: 6" + from).find("has 5, found 6"), std::string::npos);
  EXPECT_NE(error_of("kind: lora" + from).find("has rslora, found lora"), std::string::npos);
  EXPECT_NE(error_of("kind: full" + from).find("has rslora, found full"), std::string::npos);
  EXPECT_NE(error_of("from: no/such").find("adapter.from: 'no/such' is no folder"), std::string::npos);
  const auto models = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string();
  EXPECT_NE(error_of("from: " + models).find("holds no adapter_config.json"), std::string::npos);
}

// It would have no base on disk.
TEST(FromAdapter, AnAdapterBesideMergedOnesIsNotExported) {
  const auto merge = "rank: 2, merge: [{path: x, weight: -0.5}]";
  EXPECT_NE(error_of(merge).find("export.adapter: the base with adapter.merge in it is no file"),
            std::string::npos);
  EXPECT_EQ(error_of(merge, "export: {adapter: false}"), "accepted");
  EXPECT_EQ(error_of("kind: none, merge: [{path: x}]"), "accepted");
  EXPECT_NE(error_of("kind: none, merge: [{weight: 1}]").find("adapter.merge[0].path: missing"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
