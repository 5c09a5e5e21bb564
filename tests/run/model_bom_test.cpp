#include "run/model_bom.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <stdexcept>
#include <tuple>

#include "base/hash.h"
#include "run/bom_completeness.h"
#include "run/cyclonedx.h"

namespace retort {
namespace {

FileRecord file(const std::string& path, char digit) { return {path, 10, std::string(64, digit)}; }

Recipe recipe() {
  Recipe recipe;
  recipe.about = "Notes to codes";
  recipe.is_private = true;
  recipe.model.path = "/home/anna/checkpoints/base.gguf";
  recipe.adapter.kind = "lora";
  for (const auto* path : {"/home/anna/notes.csv", "/home/anna/parts"})
    recipe.data.sources.emplace_back().path = path;
  recipe.run.folder = "/home/anna/runs/a";
  recipe.data.personal_data = "leave_out";
  recipe.train.optimizer.learning_rate = 0.0005;
  recipe.card.license = "apache-2.0";
  recipe.card.base_model = "owner/base";
  recipe.card.data_license = "our own notes";
  recipe.card.datasets = {"owner/notes"};
  recipe.card.intended_use = "Suggests a code.";
  return recipe;
}

RunResult result() {
  RunResult result;
  result.samples.train = 30, result.samples.held_out = 8;
  result.samples.sources = {{"/home/anna/notes.csv", 38, 30, 8, 60}, {"/home/anna/parts", 5, 5, 0, 5}};
  result.samples.architecture = "LlamaForCausalLM, 30 layers";
  result.samples.notes = {
      "/home/anna/notes.csv: 3 of 38 records rejected: 3 too long",
      "/home/anna/parts: 1 bad records left out (on_bad_record: skip)\n"
      "  /home/anna/parts/a.jsonl:7: expected a string, found 'Miss Smith'",
      "1 of 8 held-out samples occur in the training data word for word; e.g. /home/anna/parts/a.jsonl:5",
      "see https://host/a/b and 1/2 or and/or (/srv/x/y.gguf)"};
  result.failures = {{"export", "'/home/anna/runs/a/export/m.gguf': the disk is full", Exit::machine_failed}};
  TaskResult task{"completion", "completion", {{"exact_match", 0.125}, {"f1", NAN}}, {}, 8, 0, 0};
  task.intervals = {{"exact_match", {0.01, 0.47}}};
  result.base.tasks = {task};
  task.metrics[0].second = 0.625;
  result.tuned.tasks = {task};
  result.training.steps = 30, result.training.tokens = 1000;
  result.training.operations = 2e15;
  for (const auto& [kind, label, name] : {std::tuple("gguf", "Q8_0", "export/model-Q8_0.gguf"),
                                          std::tuple("gguf-adapter", "LoRA", "export/adapter.gguf")}) {
    ModelResult model;
    model.name = name;
    model.artefact = Artefact{kind, label, name, 3 << 20, {}, 0};
    model.agreement = Agreement{.rows = 100, .kl_nats = 0.25, .top1 = 0.8};
    result.exports.push_back(std::move(model));
  }
  return result;
}

BomShape shape() {
  BomShape shape;
  shape.config.family = "llama", shape.config.hf_architecture = "LlamaForCausalLM";
  shape.config.vocabulary = 49152, shape.config.hidden = 576, shape.config.layers = 30;
  shape.config.heads = 9, shape.config.kv_heads = 3, shape.config.head_dim = 64;
  shape.config.intermediate = 1536, shape.config.context = 8192;
  shape.tokenizer = "gpt2", shape.quantization_version = "2";
  return shape;
}

OrderedJson bill(const Recipe& recipe, const RunResult& result) {
  const BomInputs inputs{
      recipe,
      result,
      {{"completion.exact_match of export/model-Q8_0.gguf is 0.6; at least 0.5", true}},
      {"base.gguf", {file("base.gguf", 'b')}},
      "llama3.2",
      {},
      BomFiles{"teacher", {file("config.json", 'c'), file("model.safetensors", 'd')}},
      {{"notes.csv", {file("notes.csv", 'e')}}, {"parts", {file("a.jsonl", '1'), file("b.jsonl", '2')}}},
      {{"questions.csv", {file("questions.csv", 'f')}}},
      file("README.md", 'a')};
  return model_bom(
      inputs,
      {{&result.exports[0], {file("model-Q8_0.Modelfile", '3'), file("model-Q8_0.gguf", '4')}, shape()},
       {&result.exports[1], {file("adapter.gguf", '5')}, shape()}});
}

OrderedJson bill() {
  const auto used = recipe();
  const auto made = result();
  return bill(used, made);
}

void collect(const OrderedJson& components, std::vector<const OrderedJson*>& all) {
  for (const auto& one : components) {
    all.push_back(&one);
    if (one.contains("components")) collect(one["components"], all);
  }
}

const OrderedJson& component(const OrderedJson& bom, const std::string& ref) {
  for (const auto& one : bom["components"])
    if (one["bom-ref"] == ref) return one;
  throw std::runtime_error("no component " + ref);
}

// The first value of that name in a list of properties; "" where there is none.
std::string property(const OrderedJson& list, const std::string& name) {
  for (const auto& one : list)
    if (one["name"] == name) return one["value"].get<std::string>();
  return "";
}

TEST(ModelBom, IsCycloneDxWhoseReferencesHold) {
  const auto bom = bill();
  EXPECT_EQ(bom["bomFormat"], "CycloneDX");
  EXPECT_EQ(bom["specVersion"], "1.7");
  EXPECT_EQ(bom["version"], 1);
  const auto serial = bom["serialNumber"].get<std::string>();
  ASSERT_EQ(serial.size(), std::string("urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79").size());
  for (const size_t dash : {17, 22, 27, 32}) EXPECT_EQ(serial[dash], '-') << serial;
  EXPECT_EQ(serial[23], '8') << serial;  // of what it says: RFC 9562, 5.8

  std::vector<const OrderedJson*> all = {&bom["metadata"]["component"]};
  collect(bom["components"], all);
  std::set<std::string> refs;
  for (const auto* one : all)
    EXPECT_TRUE(refs.insert((*one)["bom-ref"].get<std::string>()).second) << (*one)["bom-ref"];
  for (const auto& one : bom["dependencies"]) {
    EXPECT_TRUE(refs.contains(one["ref"].get<std::string>())) << one["ref"];
    for (const auto& needed : one["dependsOn"])
      EXPECT_TRUE(refs.contains(needed.get<std::string>())) << needed;
  }
  for (const auto& data : bom["components"][0]["modelCard"]["modelParameters"]["datasets"])
    EXPECT_TRUE(!data.contains("ref") || refs.contains(data["ref"].get<std::string>())) << data;
}

TEST(ModelBom, SaysWhatTheModelWasMadeFrom) {
  const auto bom = bill();
  const auto& base = component(bom, "base-model");
  EXPECT_EQ(base["name"], "owner/base");
  EXPECT_EQ(base["purl"], "pkg:huggingface/owner/base");
  EXPECT_EQ(base["hashes"][0]["content"], std::string(64, 'b'));
  EXPECT_EQ(base["licenses"][0]["license"]["name"], "llama3.2");  // no identifier of SPDX
  EXPECT_EQ(base["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"], "0.125");

  const auto& notes = component(bom, "data-1");
  EXPECT_EQ(notes["type"], "data");
  EXPECT_EQ(notes["name"], "notes.csv");
  EXPECT_EQ(notes["licenses"][0]["license"]["name"], "our own notes");
  EXPECT_EQ(notes["hashes"][0]["content"], std::string(64, 'e'));
  EXPECT_EQ(notes["data"][0]["classification"], "private");
  EXPECT_EQ(property(notes["properties"], "retort:records:heldOut"), "8");
  EXPECT_EQ(property(notes["properties"], "retort:samplesInAnEpoch"), "60");
  const auto& parts = component(bom, "data-2");
  EXPECT_FALSE(parts.contains("hashes"));
  EXPECT_EQ(parts["components"][1]["name"], "b.jsonl");
  EXPECT_EQ(property(parts["properties"], "retort:sha256OfSha256sum"),
            sha256(std::string(64, '1') + "  a.jsonl\n" + std::string(64, '2') + "  b.jsonl\n"));

  const auto& made = bom["dependencies"][0];
  EXPECT_EQ(made["ref"], "trained-model");
  EXPECT_EQ(made["dependsOn"], OrderedJson::array({"base-model", "teacher-3", "data-1", "data-2"}));
  EXPECT_EQ(bom["dependencies"][3]["ref"], "export/adapter.gguf");
  EXPECT_EQ(bom["dependencies"][3]["dependsOn"], OrderedJson::array({"trained-model", "base-model"}));
}

TEST(ModelBom, SaysWhatWasExportedWithScoresAndSettings) {
  const auto bom = bill();
  const auto& model = bom["components"][0];
  EXPECT_EQ(model["type"], "machine-learning-model");
  EXPECT_EQ(model["name"], "model-Q8_0.gguf");
  EXPECT_EQ(model["licenses"][0]["license"]["id"], "Apache-2.0");
  EXPECT_EQ(model["components"][1]["hashes"][0]["content"], std::string(64, '4'));
  const auto& distributed = model["externalReferences"][0];
  EXPECT_EQ(distributed["type"], "distribution");
  EXPECT_EQ(distributed["url"], "model-Q8_0.gguf");
  EXPECT_EQ(distributed["hashes"][0]["content"], std::string(64, '4'));
  EXPECT_EQ(model["pedigree"]["ancestors"][0]["hashes"][0]["content"], std::string(64, 'b'));

  const auto& card = model["modelCard"];
  const auto& parameters = card["modelParameters"];
  EXPECT_EQ(parameters["approach"]["type"], "supervised");
  EXPECT_EQ(parameters["architectureFamily"], "llama");
  EXPECT_EQ(parameters["datasets"][0]["ref"], "data-1");
  EXPECT_EQ(parameters["datasets"][2]["name"], "owner/notes");
  const auto& metrics = card["quantitativeAnalysis"]["performanceMetrics"];
  ASSERT_EQ(metrics.size(), 3u);  // f1 is no number
  EXPECT_EQ(metrics[0]["type"], "completion.exact_match");
  EXPECT_EQ(metrics[0]["value"], "0.625");
  EXPECT_EQ(metrics[0]["confidenceInterval"]["upperBound"], "0.47");
  EXPECT_EQ(metrics[1]["type"], "comparison.kl_nats");
  EXPECT_EQ(card["considerations"]["useCases"][0], "Suggests a code.");
  const auto settings =
      OrderedJson::parse(property(card["properties"], "genai:aibom:modelcard:hyperparameter"));
  EXPECT_EQ(settings["train.steps"], 30);
  EXPECT_EQ(settings["train.optimizer.learning_rate"], 0.0005);
  EXPECT_EQ(settings["adapter.rank"], 16);
  EXPECT_EQ(property(card["properties"], "genai:aibom:modelcard:ropeDimensionCount"), "64");
  EXPECT_EQ(property(card["properties"], "genai:aibom:modelcard:quantizationFileType"), "Q8_0");

  const auto& adapter = bom["components"][1];
  EXPECT_EQ(adapter["hashes"][0]["content"], std::string(64, '5'));
  EXPECT_EQ(adapter["purl"], "pkg:generic/adapter.gguf@555555555555?checksum=sha256:" + std::string(64, '5'));
  EXPECT_EQ(property(adapter["modelCard"]["properties"], "genai:aibom:modelcard:quantizationFileType"), "");
}

TEST(ModelBom, HoldsNoPathOfThisMachineAndNothingThatNobodySaid) {
  EXPECT_EQ(bom_text(bill()).find("/home/anna"), std::string::npos);
  EXPECT_EQ(bom_text(bill()).find("Miss Smith"), std::string::npos);  // nor what stood in a bad record
  for (const auto* said :
       {"\"notes.csv: 3 of 38 records rejected: 3 too long\"", "\"parts: 1 bad records left out",
        "word for word; e.g. parts/a.jsonl:5\"", "\"export failed: 'export/m.gguf': the disk is full\"",
        "\"see https://host/a/b and 1/2 or and/or (y.gguf)\""})
    EXPECT_NE(bom_text(bill()).find(said), std::string::npos) << said << bom_text(bill());
  auto relative = recipe();
  relative.data.sources[0].path = "data/private/notes.csv";
  auto noted = result();
  noted.samples.notes = {"data/private/notes.csv: 3 of 38 records rejected", "metadata/private/x stays"};
  const auto text = bom_text(bill(relative, noted));
  EXPECT_NE(text.find("\"notes.csv: 3 of 38 records rejected\""), std::string::npos) << text;
  EXPECT_NE(text.find("\"metadata/private/x stays\""), std::string::npos) << text;
  auto bare = recipe();
  bare.card = {};
  bare.is_private = false;
  bare.data.personal_data = "report";
  const auto made = result();
  const auto bom = bill(bare, made);
  EXPECT_FALSE(bom["components"][0].contains("licenses"));
  EXPECT_FALSE(component(bom, "data-1").contains("licenses"));
  EXPECT_FALSE(component(bom, "data-1")["data"][0].contains("classification"));
  EXPECT_FALSE(component(bom, "base-model").contains("purl"));
  EXPECT_EQ(component(bom, "base-model")["name"], "base.gguf");
  EXPECT_EQ(property(bom["metadata"]["properties"], "useSensitivePersonalInformation"), "");
  EXPECT_NE(property(bill()["metadata"]["properties"], "useSensitivePersonalInformation"), "");
  EXPECT_FALSE(bom["components"][0]["modelCard"]["considerations"].contains("useCases"));
}

TEST(ModelBom, IsTheSameForTheSameAndHasAnotherNumberForAnother) {
  EXPECT_EQ(bom_text(bill()), bom_text(bill()));
  auto other = recipe();
  other.train.seed = 8;
  const auto made = result();
  EXPECT_NE(bill(other, made)["serialNumber"], bill()["serialNumber"]);
}

// Exposure and membership are measured on what was trained on, the opposite of every other score.
TEST(CycloneDx, AMetricSaysWhetherItsSamplesWereTrainedOn) {
  const auto slice = [](const std::string& kind, const std::string& metric) {
    const std::vector<TaskResult> tasks = {{"mine", kind, {{metric, 0.5}}, {}, 6, 0, 0}};
    const auto metrics = bom_metrics(tasks);
    EXPECT_EQ(metrics[0]["type"], "mine." + metric);
    return metrics[0]["slice"].get<std::string>();
  };
  for (const auto* kind : {"perplexity", "completion", "numeric"})
    EXPECT_EQ(slice(kind, "score"), "6 samples that were not trained on");
  EXPECT_EQ(slice("exposure", "max_exposure"),
            "6 canaries of the training samples, each among texts of its kind that are not");
  EXPECT_EQ(slice("membership", "auc"), "6 samples, some of the training samples and the others held out");
}

RecipeCard whole_card() {
  RecipeCard card;
  card.license = "apache-2.0", card.base_model = "owner/base";
  card.intended_use = "Suggests a code.", card.domain = "medicine";
  card.autonomy = "suggests to a person, who decides", card.standards = "ISO/IEC 42001";
  card.ethics = "A wrong code may lead to a wrong bill.", card.risk_assessment = "Assessed by the clinic.";
  card.explainability = "The code's title stands beside it.", card.personal_data = "none";
  card.repository = "https://git.example.org/codes", card.website = "https://example.org/codes";
  card.energy_kwh = 1.5;
  card.supplier = {"The clinic", "https://example.org", "data@example.org"};
  return card;
}

TEST(BomCompleteness, ACardThatSaysEverythingHasAHundredPoints) {
  auto whole = recipe();
  whole.card = whole_card();
  const auto made = result();
  const auto bom = bill(whole, made);
  const auto found = completeness_of(Json(bom));
  EXPECT_EQ(found.points, 100) << bills_table("", {{"bom.cdx.json", found}}).rows.back().at(0);
  EXPECT_EQ(found.counted, 48);
  EXPECT_EQ(found.filled, 48);
  EXPECT_EQ(bills_line({{"bom.cdx.json", found}}), "1 (bom.cdx.json), 100.0 of 100 points for completeness");

  const auto& model = bom["components"][0];
  for (const auto* one : {&model, &bom["metadata"]["component"]})
    EXPECT_EQ((*one)["supplier"], OrderedJson::parse(R"({"name": "The clinic", "url": ["https://example.org"],
                                     "contact": [{"email": "data@example.org"}]})"));
  EXPECT_EQ(model["modelCard"]["considerations"]["ethicalConsiderations"][0]["name"],
            "A wrong code may lead to a wrong bill.");
  EXPECT_EQ(model["externalReferences"].back()["url"], "https://example.org/codes");
  EXPECT_EQ(property(bom["metadata"]["properties"], "energyUnit"), "kWh");
}

// Of 48 fields a run without a word from its recipe fills 33: 20 points of 20, one field of five (4 points),
// six of seven (17.1), 20 of 28 (21.4) and two of four (5). One critical and four important fields are empty;
// from the fifth on the generator takes a twentieth off.
TEST(BomCompleteness, IsCountedAsByHandAndNamesTheKeysThatAreEmpty) {
  auto bare = recipe();
  bare.card = {};
  bare.is_private = false;
  bare.data.personal_data = "report";
  auto made = result();
  const auto found = completeness_of(Json(bill(bare, made)));
  EXPECT_DOUBLE_EQ(found.points, 67.5);
  EXPECT_EQ(found.filled, 33);
  EXPECT_EQ(found.counted, 48);
  std::set<std::string> keys;
  for (const auto& gap : found.gaps) keys.insert(gap.key);
  EXPECT_EQ(keys, (std::set<std::string>{"card.autonomy", "card.domain", "card.energy_kwh", "card.ethics",
                                         "card.explainability", "card.intended_use", "card.license",
                                         "card.personal_data", "card.repository", "card.risk_assessment",
                                         "card.standards", "card.supplier.name", "card.website"}));
  const auto table = bills_table("", {{"export/bom.cdx.json", found}});
  EXPECT_EQ(table.rows.front().at(1), "67.5 of 100 points: 33 of 48 fields are filled");
  EXPECT_EQ(
      table.rows.at(1),
      (std::vector<std::string>{"Empty: suppliedBy", "who supplies the model; card.supplier.name fills it"}));
  EXPECT_EQ(bills_line({{"a", found}}),
            "1 (bom.cdx.json), 67.5 of 100 points for completeness; the dossier says how to fill 15 empty "
            "fields");

  made.training.operations = 0;
  EXPECT_DOUBLE_EQ(completeness_of(Json(bill(bare, made))).points, 63.2);  // 66.5 less a twentieth
  EXPECT_DOUBLE_EQ(completeness_of(Json::object()).points, 0);
}

TEST(CycloneDx, LicencesOfHubsAreThoseOfSpdxWhereItHasThem) {
  for (const auto& [hub, spdx] :
       {std::pair("apache-2.0", "Apache-2.0"), {"cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"}, {"MIT", "MIT"}})
    EXPECT_EQ(bom_licenses(hub)[0]["license"]["id"], spdx);
  EXPECT_EQ(bom_licenses("gemma")[0]["license"]["name"], "gemma");
}

TEST(CycloneDx, PackageUrlsOfHubsAreOfOwnersAndNames) {
  EXPECT_EQ(hub_purl("HuggingFaceTB/SmolLM2-135M"), "pkg:huggingface/HuggingFaceTB/SmolLM2-135M");
  for (const auto* other : {"base.gguf", "/models/base", "a/b/c", "owner/", "https://x.org/a"})
    EXPECT_EQ(hub_purl(other), "") << other;
  EXPECT_EQ(percent_encoded("a b+c.gguf"), "a%20b%2Bc.gguf");
}

TEST(CycloneDx, ThousandsOfFilesAreOneHash) {
  std::vector<FileRecord> files;
  for (int i = 0; i < 101; ++i) files.push_back(file(std::to_string(i), 'a'));
  OrderedJson component = OrderedJson::object();
  auto properties = OrderedJson::array();
  add_bom_files(component, "data-1", files, properties);
  EXPECT_FALSE(component.contains("components"));
  EXPECT_EQ(property(properties, "retort:files"), "101");
  EXPECT_EQ(property(properties, "retort:sha256OfSha256sum"), bom_hash(files));
}

}  // namespace
}  // namespace retort
