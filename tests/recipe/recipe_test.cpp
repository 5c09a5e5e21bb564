#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "recipe/keys.h"
#include "recipe/recipe.h"
#include "spec/print.h"
#include "spec/read.h"
#include "where.h"  // tests

namespace retort {

namespace {

const std::filesystem::path kRoot = source_dir();

std::vector<std::filesystem::path> sample_recipes() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kRoot / "recipes")) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  return files;
}

struct KeyPlace {
  std::string path, name;
  int64_t line, column;
};

void collect_keys(const YamlNode& node, const std::string& path, std::vector<KeyPlace>& out) {
  for (const auto& [key, value] : node.entries) {
    const auto inside = path.empty() ? key.text : path + "." + key.text;
    out.push_back({inside, key.text, key.place.line, key.place.column});
    collect_keys(value, inside, out);
  }
  for (size_t i = 0; i < node.items.size(); ++i)
    collect_keys(node.items[i], fmt::format("{}[{}]", path, i), out);
}

}  // namespace

TEST(Recipe, EverySampleIsAccepted) {
  for (const auto& file : sample_recipes()) EXPECT_NO_THROW(load_recipe(file, {})) << file;
}

// A letter more in any key of any sample: an error at that very place, with the right key suggested.
TEST(Recipe, ATypoInEveryKeyOfEverySampleIsNamedAndCorrected) {
  for (const auto& file : sample_recipes()) {
    const auto text = read_text(file);
    std::vector<Problem> none;
    std::vector<KeyPlace> keys;
    collect_keys(parse_yaml(text, "r", none), "", keys);
    ASSERT_FALSE(keys.empty()) << file;
    for (const auto& key : keys) {
      size_t at = 0;
      for (int64_t line = 1; line < key.line; ++line) at = text.find('\n', at) + 1;
      at += static_cast<size_t>(key.column - 1);
      ASSERT_EQ(text.substr(at, key.name.size()), key.name) << file << " " << key.path;
      auto misspelt = text;
      misspelt.insert(at + key.name.size() / 2, 1, 'q');
      try {
        parse_recipe(misspelt, "r.yaml");
        ADD_FAILURE() << file << ": accepted with a typo in " << key.path;
      } catch (const RecipeError& error) {
        const std::string place = fmt::format("r.yaml:{}:{}: ", key.line, key.column);
        const std::string what = error.what();
        EXPECT_NE(what.find(place), std::string::npos) << what;
        EXPECT_NE(what.find(fmt::format("unknown key; did you mean '{}'?", key.name)), std::string::npos)
            << key.path << "\n"
            << what;
      }
    }
  }
}

TEST(Recipe, ResolvedTextReadsBackEqual) {
  for (const auto& file : sample_recipes()) {
    const auto loaded = load_recipe(file, {});
    const auto again = parse_recipe(loaded.resolved, "resolved.yaml");
    EXPECT_EQ(again.resolved, loaded.resolved) << file;
    EXPECT_EQ(again.sha256, sha256(loaded.resolved));
  }
}

TEST(Recipe, ResolvedTextKeepsEveryCharacter) {
  Recipe recipe;
  recipe.model.path = "a \"b\"\\\n\t: #c 'd' \xC3\xA9 ${HOME}";
  EXPECT_EQ(parse_recipe(print_spec(recipe), "r").recipe.model.path, recipe.model.path);
}

// Texts keep their braces on a command line, keys that hold others are read as YAML.
TEST(Recipe, ATextIsTakenAsItStandsOnTheCommandLine) {
  const std::string text = "model: {path: a.gguf}\ndata: {sources: [{path: a.csv, prompt: 'x'}]}";
  const std::vector<std::string> overrides = {
      "data.sources.0.prompt={note}: [why?]", "data.sources[0].completion={code}",
      "data.sources.0.fields={text: body}", "data.template=[x] {{ y }}",
      "data.sources.0.group=\"{patient}\""};
  const auto recipe = parse_recipe(text, "r", overrides).recipe;
  EXPECT_EQ(recipe.data.sources[0].prompt, "{note}: [why?]");
  EXPECT_EQ(recipe.data.sources[0].completion, "{code}");
  EXPECT_EQ(recipe.data.sources[0].fields_of_records.entries.size(), 1u);
  EXPECT_EQ(recipe.data.chat_template, "[x] {{ y }}");
  EXPECT_EQ(recipe.data.sources[0].group, "{patient}") << "quotes are read as YAML's, as before";
}

TEST(Recipe, OldNamesOfKeysAreReadWithALine) {
  const auto old =
      parse_recipe("model: {path: a.gguf}\ndata: {row_tokens: 512}\ntrain:\n  batch: {row_tokens: 256}\n",
                   "r.yaml", {"eval.row_tokens=128"});
  EXPECT_EQ(old.recipe.data.sample_tokens, 512);
  EXPECT_EQ(old.recipe.train.batch.pass_tokens, 256);
  EXPECT_EQ(old.recipe.eval.pass_tokens, 128);
  ASSERT_EQ(old.notes.size(), 3u);
  EXPECT_EQ(old.notes[0],
            "r.yaml:2:8: data.row_tokens is called data.sample_tokens now; the old name still works");
  EXPECT_EQ(old.notes[2],
            "command line: eval.row_tokens=128: eval.row_tokens is called eval.pass_tokens now; the old name "
            "still works");
  const auto now =
      parse_recipe("model: {path: a.gguf}\ndata: {sample_tokens: 512}", "r.yaml", {"data.row_tokens=64"});
  EXPECT_EQ(now.recipe.data.sample_tokens, 64);
  EXPECT_TRUE(parse_recipe(old.resolved, "r.yaml").notes.empty());
  try {
    parse_recipe("model: {path: a.gguf}\ndata: {sample_tokens: 512, row_tokens: 64}", "r.yaml");
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("r.yaml:2:28: data.row_tokens: unknown key"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(explain("data.row_tokens")
                .find("data.row_tokens is called data.sample_tokens now; the old name "
                      "still works\ndata.sample_tokens\n"),
            0u)
      << explain("data.row_tokens");
}

TEST(Recipe, AnOverrideChangesTheHash) {
  const auto text = "model: {path: a.gguf}";
  EXPECT_NE(parse_recipe(text, "r").sha256, parse_recipe(text, "r", {"model.weights=nf4"}).sha256);
  EXPECT_EQ(parse_recipe(text, "r").sha256, parse_recipe(text, "r", {"model.weights=keep"}).sha256);
}

TEST(Keys, EveryKeyIsDocumented) {
  for (const auto& key : recipe_keys()) EXPECT_GE(key.documentation.size(), 5u) << key.path;
}

TEST(Keys, ExplainShowsOneKeyOrASectionOrSuggests) {
  const auto text = explain("model.weights");
  EXPECT_NE(text.find("model.weights\n    one of keep, f32,"), std::string::npos) << text;
  EXPECT_NE(text.find("default \"keep\""), std::string::npos);
  EXPECT_NE(explain("model").find("model.path"), std::string::npos);
  EXPECT_EQ(explain("model").find("run.folder"), std::string::npos);
  EXPECT_NE(explain("").find("run.folder"), std::string::npos);
  try {
    explain("model.wieghts");
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_STREQ(error.what(),
                 "explain: 'model.wieghts' is no key of a recipe; did you mean 'model.weights'?");
  }
}

TEST(Keys, SchemaIsClosedAndCarriesBoundsWordsAndRequiredKeys) {
  const auto schema = recipe_schema();
  EXPECT_EQ(schema["additionalProperties"], false);
  const auto& model = schema["properties"]["model"];
  EXPECT_EQ(model["additionalProperties"], false);
  EXPECT_EQ(model["required"], OrderedJson({"path"}));
  EXPECT_EQ(schema["required"][0], "model");
  EXPECT_EQ(model["properties"]["weights"]["enum"][0], "keep");
  EXPECT_EQ(model["properties"]["weights"]["default"], "keep");
  EXPECT_EQ(model["properties"]["double_quant"]["type"], "boolean");
  const auto& share = schema["properties"]["train"]["properties"]["schedule"]["properties"]["warmup_share"];
  EXPECT_EQ(share["type"], OrderedJson({"number", "string"}));  // 0.03 or 3%
  EXPECT_EQ(share["maximum"], 1);
}

// Refresh with: build/dev/retort explain --markdown > docs/recipe-reference.md
TEST(Keys, TheReferenceInDocsIsUpToDate) {
  EXPECT_TRUE(read_text(kRoot / "docs/recipe-reference.md") == recipe_reference())
      << "run: retort explain --markdown > docs/recipe-reference.md";
}

TEST(Keys, TheSchemaInConfigsIsUpToDate) {
  EXPECT_TRUE(read_text(kRoot / "configs/recipe.schema.json") == recipe_schema().dump(2) + "\n")
      << "run: retort schema > configs/recipe.schema.json";
}

}  // namespace retort
