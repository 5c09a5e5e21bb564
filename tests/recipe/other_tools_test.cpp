// Keys of Axolotl, LLaMA-Factory and TRL: the table, and what stands behind "unknown key".
#include "recipe/other_tools.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "recipe/keys.h"
#include "recipe/recipe.h"
#include "where.h"  // tests

namespace retort {

namespace {

const std::filesystem::path kRoot = source_dir();

std::string error_of(const std::string& text) {
  try {
    parse_recipe(text, "r.yaml");
  } catch (const RecipeError& error) { return error.what(); }
  return "accepted";
}

void expect_said(const std::string& recipe, const std::string& wanted) {
  const auto error = error_of(recipe);
  EXPECT_NE(error.find(wanted), std::string::npos) << recipe << "\n" << error;
}

}  // namespace

TEST(OtherTools, EveryCounterpartIsAKeyOfARecipe) {
  std::set<std::string> paths;
  for (const auto& key : recipe_keys()) paths.insert(key.path);
  for (const auto& row : other_keys()) {
    const auto ours = words_of(row.ours);
    for (const auto& path : ours) EXPECT_TRUE(paths.contains(path)) << row.keys << ": " << path;
    EXPECT_TRUE(!row.copied || ours.size() == 1) << row.keys;
    EXPECT_TRUE(!ours.empty() || std::string(row.note).size() > 10) << row.keys << ": no reason";
  }
}

TEST(OtherTools, AKeyOfAToolStandsInOneRow) {
  for (const auto tool : kTools) {
    std::set<std::string> seen;
    for (const auto& row : other_keys()) {
      if (!row.of(tool)) continue;
      for (const auto& key : words_of(row.keys))
        EXPECT_TRUE(seen.insert(key).second) << name_of(tool) << ": " << key;
    }
    EXPECT_GT(seen.size(), 100u) << name_of(tool);
  }
}

TEST(OtherTools, APatternIsForKeysThatHaveNoRowOfTheirOwn) {
  EXPECT_STREQ(find_other_key(Tool::axolotl, "wandb_project")->ours, "");
  EXPECT_STREQ(find_other_key(Tool::axolotl, "is_mistral_derived_model")->ours, "");
  EXPECT_EQ(find_other_key(Tool::axolotl, "is_mistral"), nullptr);
  EXPECT_EQ(find_other_key(Tool::trl, "micro_batch_size"), nullptr);
  EXPECT_STREQ(find_other_key(Tool::trl, "max_length")->ours, "data.sample_tokens");
  EXPECT_STREQ(find_other_key(Tool::llama_factory, "max_length")->ours, "");  // of answers, there
}

TEST(OtherTools, AnUnknownKeyOfTheirsNamesOurs) {
  const std::string model = "model: {path: a.gguf}\n";
  expect_said(
      model + "max_steps: 40",
      "r.yaml:2:1: max_steps: unknown key; max_steps of Axolotl, LLaMA-Factory and TRL is train.steps "
      "here\n");
  // It was "did you mean 'bad_steps'?" once.
  expect_said(
      model + "train: {max_steps: 40}",
      "train.max_steps: unknown key; max_steps of Axolotl, LLaMA-Factory and TRL is train.steps here\n");
  expect_said(model + "learning_rate: 2.0e-4",
              "learning_rate of Axolotl, LLaMA-Factory and TRL is train.optimizer.learning_rate here\n");
  expect_said(model + "train: {micro_batch_size: 2}",
              "micro_batch_size of Axolotl is train.batch.samples here\n");
  expect_said(model + "cutoff_len: 512", "cutoff_len of LLaMA-Factory is data.sample_tokens here\n");
  expect_said(model + "val_set_size: 0.1",
              "val_set_size of Axolotl is data.held_out.fraction or data.held_out.count here\n");
  expect_said(model + "flash_attention: true", "flash_attention of Axolotl has no counterpart here: ");
  expect_said(model + "wandb_project: mine",
              "wandb_project of Axolotl has no counterpart here: there is no network");
  expect_said(model + "data: {sources: [{path: a.jsonl, type: alpaca}]}",
              "data.sources[0].type: unknown key; datasets.type of Axolotl is data.sources[].kind here: ");
  expect_said(model + "datasets: [{path: a.jsonl}]",
              "datasets of Axolotl and TRL is data.sources here; or did you mean 'card.datasets'?\n");
}

// Keys of ours that stand in the wrong section or are misspelt are not taken for those of others.
TEST(OtherTools, OurOwnKeysAreNotTakenForTheirs) {
  const std::string model = "model: {path: a.gguf}\n";
  expect_said(model + "optimizer: {kind: sgd}", "optimizer: unknown key; did you mean 'train.optimizer'?\n");
  expect_said(model + "eval: {task: []}", "eval.task: unknown key; did you mean 'tasks'?\n");
  expect_said(model + "train: {seeds: 1}", "train.seeds: unknown key; did you mean 'seed'?\n");
  expect_said(model + "export: {template: auto}",
              "export.template: unknown key; did you mean 'data.template'?\n");
  expect_said(model + "adapter: {target: [all]}", "adapter.target: unknown key; did you mean 'targets'?\n");
  expect_said(model + "train: {batch: {sample: 4}}",
              "train.batch.sample: unknown key; did you mean 'samples'?\n");
  expect_said(model + "colour: red", "colour: unknown key; `retort explain` lists all keys\n");
  // Whatever key of ours stands at the top without its section: the way to it is said.
  for (const auto& key : recipe_keys()) {
    const auto name = key.path.substr(key.path.rfind('.') + 1);
    if (key.section || key.path.find('.') == std::string::npos) continue;
    const auto error = error_of(model + name + ": {a: 1}");
    if (error.find(name + ": unknown key; ") == std::string::npos) continue;  // also one of the outermost
    EXPECT_NE(error.find("unknown key; did you mean '"), std::string::npos) << error;
  }
}

// Such a recipe was 25 lines, and none said that one command translates it.
TEST(OtherTools, AWholeRecipeOfAnotherToolIsOneLine) {
  const auto error = error_of(
      "base_model: NousResearch/Llama-3.2-1B\nload_in_4bit: true\ndatasets:\n  - {path: cases.jsonl, type: "
      "alpaca}\nval_set_size: 0.1\noutput_dir: ./out\nsequence_len: 2048\nsample_packing: true\nlora_r: 32\n"
      "lora_alpha: 16\nlora_dropout: 0.05\nlora_target_linear: true\nwandb_project: mine\n"
      "gradient_accumulation_steps: 4\nmicro_batch_size: 2\nnum_epochs: 1\nmax_steps: 20\noptimizer: "
      "adamw_bnb_8bit\nlr_scheduler: cosine\nlearning_rate: 0.0002\nbf16: auto\ngradient_checkpointing: "
      "true\n"
      "flash_attention: true\nwarmup_ratio: 0.1\nevals_per_epoch: 4\nweight_decay: 0.0\n");
  EXPECT_EQ(error,
            "r.yaml: looks like a configuration of Axolotl; `retort init --from r.yaml` translates it");
  EXPECT_EQ(error_of("model_name_or_path: a\nstage: sft\nfinetuning_type: lora\ncutoff_len: 512\n"),
            "r.yaml: looks like a configuration of LLaMA-Factory; `retort init --from r.yaml` translates it");
  EXPECT_EQ(error_of("model_name_or_path: a\nmax_steps: 3\nper_device_train_batch_size: 2\n"),
            "r.yaml: looks like a configuration of TRL; `retort init --from r.yaml` translates it");
  // A recipe of ours with some of theirs in it hears of each.
  expect_said("model: {path: a.gguf}\nmax_steps: 40\ncutoff_len: 512\nval_set_size: 0.1\n",
              "cutoff_len of LLaMA-Factory is data.sample_tokens here\n");
}

TEST(OtherTools, ExplainKnowsTheirKeysAndSearchesOurs) {
  const auto steps = explain("max_steps");
  EXPECT_EQ(
      steps.find("max_steps of Axolotl, LLaMA-Factory and TRL is train.steps here: above 0 it goes before "
                 "the epochs\ntrain.steps\n    a whole number"),
      0u)
      << steps;
  EXPECT_NE(explain("type").find("datasets.type of Axolotl is data.sources[].kind here: "),
            std::string::npos);
  const auto warm = explain("Warm-Up stable");
  EXPECT_NE(warm.find("keys with 'Warm-Up stable' in their names or descriptions:\ntrain.schedule.kind\n"),
            std::string::npos)
      << warm;
  EXPECT_EQ(warm.find("warmup_steps\n"), std::string::npos) << "only where all words are found";
  EXPECT_NE(explain("phone").find("data.personal_data\n"), std::string::npos);
  EXPECT_EQ(explain("train.steps").find("keys with"), std::string::npos) << "a key is no search";
  EXPECT_THROW(explain("xylophone"), RecipeError);
}

// Refresh with: build/dev/retort explain --from all > docs/from-other-tools.md
TEST(OtherTools, ThePageInDocsIsUpToDate) {
  EXPECT_TRUE(read_text(kRoot / "docs/from-other-tools.md") == other_tools_page())
      << "run: retort explain --from all > docs/from-other-tools.md";
}

}  // namespace retort
