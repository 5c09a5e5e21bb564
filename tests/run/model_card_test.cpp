#include "run/model_card.h"

#include <gtest/gtest.h>

#include "report/markdown.h"
#include "spec/yaml.h"

namespace retort {
namespace {

Recipe recipe() {
  Recipe recipe;
  recipe.about = "Notes to codes";
  recipe.model.path = "checkpoints/base.gguf";
  recipe.adapter.kind = "lora";
  recipe.card.license = "apache-2.0";
  recipe.card.base_model = "owner/base";
  recipe.card.datasets = {"owner/notes"};
  recipe.card.languages = {"en"};
  recipe.card.tags = {"medical", "lora"};
  recipe.card.base_training_flops = 1e20;
  return recipe;
}

ModelResult exported(const std::string& kind, const std::string& label, const std::string& name) {
  ModelResult model;
  model.name = name;
  model.artefact = Artefact{kind, label, name, 3 << 20, {}, 0};
  model.agreement = Agreement{.rows = 100, .kl_nats = 0.25, .top1 = 0.8};
  return model;
}

RunResult result() {
  RunResult result;
  result.samples.train = 30, result.samples.held_out = 8;
  result.samples.sources = {{"/home/anna/notes.csv", 38, 30, 8, 30}};
  TaskResult task{"completion", "completion", {{"exact_match", 0.125}, {"f1", 0.5}}, {}, 8, 0, 0};
  task.intervals = {{"exact_match", {0.01, 0.47}}};
  result.base.tasks = {task};
  task.metrics[0].second = 0.625;
  result.tuned.tasks = {task};
  result.training.steps = 30;
  result.training.operations = 2e15;
  result.exports = {exported("peft", "LoRA", "export/adapter"),
                    exported("gguf", "Q4_K_M", "export/model-Q4_K_M.gguf")};
  return result;
}

// The lines between the two "---", as a tree.
YamlNode metadata_of(const std::string& card) {
  EXPECT_TRUE(card.starts_with("---\n"));
  const auto end = card.find("\n---\n", 4);
  EXPECT_NE(end, std::string::npos);
  std::vector<Problem> problems;
  return parse_yaml(card.substr(4, end - 3), "card", problems);
}

std::string text(const YamlNode& node, const char* key) {
  const auto* found = node.find(key);
  return found ? found->text : "absent";
}

TEST(ModelCard, HasTheMetadataThatHubsRead) {
  const auto made = result();
  const auto adapter = metadata_of(model_card(recipe(), made, made.exports[0]));
  EXPECT_EQ(text(adapter, "license"), "apache-2.0");
  EXPECT_EQ(text(adapter, "base_model"), "owner/base");
  EXPECT_EQ(text(adapter, "base_model_relation"), "adapter");
  EXPECT_EQ(text(adapter, "library_name"), "peft");
  EXPECT_EQ(text(adapter, "pipeline_tag"), "text-generation");
  EXPECT_EQ(adapter.find("datasets")->items.at(0).text, "owner/notes");
  EXPECT_EQ(adapter.find("language")->items.at(0).text, "en");
  std::vector<std::string> tags;
  for (const auto& tag : adapter.find("tags")->items) tags.push_back(tag.text);
  EXPECT_EQ(tags, (std::vector<std::string>{"retort", "lora", "medical"}));
  const auto& index = adapter.find("model-index")->items.at(0);
  EXPECT_EQ(text(index, "name"), "Notes to codes");
  const auto& scored = index.find("results")->items.at(0);
  EXPECT_EQ(text(*scored.find("task"), "type"), "text-generation");
  EXPECT_EQ(text(*scored.find("dataset"), "name"), "8 samples of task completion");
  const auto& metric = scored.find("metrics")->items.at(0);
  EXPECT_EQ(text(metric, "type"), "exact_match");
  EXPECT_EQ(text(metric, "value"), "0.625");  // the tuned model's: an adapter on its base is that model

  const auto file = metadata_of(model_card(recipe(), made, made.exports[1]));
  EXPECT_EQ(text(file, "base_model_relation"), "quantized");
  EXPECT_EQ(text(file, "library_name"), "absent");
}

TEST(ModelCard, SaysWhatNobodyStatedAndWhatIsKnownToBeBad) {
  auto bare = recipe();
  bare.card = {};
  const auto made = result();
  const auto card = model_card(bare, made, made.exports[1]);
  EXPECT_EQ(text(metadata_of(card), "license"), "absent");
  EXPECT_NE(card.find("Licence: not stated (card.license)"), std::string::npos) << card;
  EXPECT_NE(card.find("## Intended use\n\nnot stated (card.intended\\_use)"), std::string::npos) << card;
  EXPECT_NE(card.find("| completion.exact\\_match | 8 | 0.125 (0.01 to 0.47) | 0.625 (0.01 to 0.47) |"),
            std::string::npos)
      << card;
  EXPECT_NE(card.find("is rated visible: 0.25 nats a token"), std::string::npos) << card;
  EXPECT_NE(card.find("8 held-out samples: intervals are wide"), std::string::npos) << card;
  EXPECT_NE(card.find("| notes.csv | 38 | 30 | 8 | 30 |"), std::string::npos) << card;
  EXPECT_EQ(card.find("/home/anna"), std::string::npos);  // a card goes out, a path of this machine does not
  EXPECT_NE(card.find("the base's own training is not stated"), std::string::npos) << card;
  EXPECT_NE(model_card(recipe(), made, made.exports[1]).find("2e-05 of the base's 1e+20"), std::string::npos);
}

TEST(Markdown, KeepsCellsInTheirPlaces) {
  EXPECT_EQ(table_markdown({"t", "a note", {"a", "b"}, {{"x|y", "<b>\n*"}}, false}),
            "\n| a | b |\n|---|---:|\n| x\\|y | &lt;b&gt; \\* |\n\na note\n");
}

}  // namespace
}  // namespace retort
