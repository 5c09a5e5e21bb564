// Bills of materials beside the exports of a whole run.
#include <map>
#include <set>

#include "base/hash.h"
#include "base/json.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

TEST(Bom, NamesEveryExportedFileByItsHash) {
  if (!fs::exists(fs::path(source_dir()) / kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  std::string samples;
  for (int i = 0; i < 12; ++i)
    samples += fmt::format("{{\"prompt\": \"What is {} and 1?\", \"completion\": \"{}\"}}\n", i, i + 1);
  samples += "{\"prompt\": \"one line is bad\"}\n";
  const auto data = folder.write("sums.jsonl", samples);
  const auto run = folder.path / "run";
  const auto file =
      folder.write("r.yaml", fmt::format("model: {{path: {}, compute: f32}}\n"
                                         "data: {{sources: [{{path: {}, on_bad_record: skip}}], "
                                         "held_out: {{count: 4}}}}\n"
                                         "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
                                         "train: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
                                         "eval: {{tasks: [{{kind: perplexity}}]}}\n"
                                         "export: {{merged: none, gguf: [Q8_0], compare_samples: 2}}\n"
                                         "gate: [{{metric: perplexity.nats_per_token, at_most: 100}}]\n"
                                         "card:\n  license: apache-2.0\n  data_license: cc0-1.0\n"
                                         "  supplier: {{name: The school, contact: sums@example.org}}\n"
                                         "  intended_use: Adds one.\n  domain: sums\n"
                                         "  autonomy: a child decides\n  standards: none\n"
                                         "  ethics: A wrong sum is marked.\n  risk_assessment: none made\n"
                                         "  explainability: count again\n  personal_data: none there\n"
                                         "  energy_kwh: 0.001\n"
                                         "  repository: https://git.example.org/sums\n"
                                         "  website: https://example.org/sums\n"
                                         "run: {{folder: {}}}\n",
                                         kModel, data, run.string()));
  const auto done = retort("run '" + file + "'");
  ASSERT_EQ(done.exit, 0) << done.err;
  EXPECT_NE(done.out.find("\nbills     2 (bom.cdx.json), 100.0 of 100 points for completeness\n"),
            std::string::npos)
      << done.out;
  const auto dossier = read_text(run / "dossier.md");
  EXPECT_NE(dossier.find("export/adapter/bom.cdx.json"), std::string::npos) << dossier;
  EXPECT_EQ(dossier.find("Empty: "), std::string::npos) << dossier;
  // What the recipe does not say is seen in the record itself: 8 of the 25 keys, tags among them.
  EXPECT_NE(dossier.find("things that only the recipe can say; 8 of them are empty"), std::string::npos)
      << dossier;
  EXPECT_NE(dossier.find("\n| card.tags | "), std::string::npos) << dossier;
  const auto report = read_text(run / "report.html");
  EXPECT_NE(report.find("<h2>Not stated</h2>"), std::string::npos);
  EXPECT_NE(report.find("<td>card.base_model</td>"), std::string::npos);
  EXPECT_EQ(report.find("<td>card.license</td>"), std::string::npos);

  const auto bom = read_json(run / "export/bom.cdx.json");
  const auto& model = bom["components"][0];
  EXPECT_EQ(model["name"], "model-Q8_0.gguf");
  std::map<std::string, std::string> hashes;
  for (const auto& part : model["components"])
    hashes[part["name"].get<std::string>()] = part["hashes"][0]["content"].get<std::string>();
  EXPECT_EQ(hashes, (std::map<std::string, std::string>{
                        {"model-Q8_0.Modelfile", sha256_file(run / "export/model-Q8_0.Modelfile")},
                        {"model-Q8_0.gguf", sha256_file(run / "export/model-Q8_0.gguf")}}));
  EXPECT_EQ(model["modelCard"]["modelParameters"]["architectureFamily"], "llama");
  const auto& metric = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0];
  EXPECT_EQ(metric["type"].get<std::string>().find("perplexity."), 0u) << metric;

  const auto adapter = read_json(run / "export/adapter/bom.cdx.json");
  std::set<std::string> names;
  for (const auto& part : adapter["components"][0]["components"])
    names.insert(part["name"].get<std::string>());
  EXPECT_EQ(names, (std::set<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
  for (const auto* bill : {&bom, &adapter}) {
    bool base = false, sums = false;
    for (const auto& component : (*bill)["components"]) {
      if (component["bom-ref"] == "base-model") {
        base = true;
        EXPECT_EQ(component["hashes"][0]["content"], sha256_file(fs::path(source_dir()) / kModel));
      }
      if (component["bom-ref"] == "data-1") {
        sums = true;
        EXPECT_EQ(component["hashes"][0]["content"], sha256_file(data));
        EXPECT_EQ(component["licenses"][0]["license"]["id"], "CC0-1.0");
      }
    }
    EXPECT_TRUE(base && sums);
    EXPECT_EQ(bill->dump().find(folder.path.string()), std::string::npos);
    EXPECT_NE(bill->dump().find("\"sums.jsonl: 1 bad record left out"), std::string::npos);
  }

  // It is a part of the record, and goes again when it was removed.
  const auto before = read_text(run / "export/bom.cdx.json");
  fs::remove(run / "export/bom.cdx.json");
  EXPECT_EQ(retort("verify '" + run.string() + "'").exit, 2);
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  EXPECT_EQ(read_text(run / "export/bom.cdx.json"), before);
  const auto verified = retort("verify '" + run.string() + "'");
  EXPECT_EQ(verified.exit, 0) << verified.out;
}

std::string sums(int from, int to) {
  std::string lines;
  for (int i = from; i < to; ++i)
    lines += fmt::format("{{\"prompt\": \"What is {} and 1?\", \"completion\": \"{}\"}}\n", i, i + 1);
  return lines;
}

// Recipes name files relative to where the command is started; the manifest names them by their whole paths.
TEST(Bom, NamesFilesOfTeacherAdapterAndQuestionsOfRelativePaths) {
  if (!fs::exists(fs::path(source_dir()) / kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto relative = [](const fs::path& path) {
    return path.lexically_proximate(source_dir()).string();  // where the program is started
  };
  const auto data = relative(folder.write("sums.jsonl", sums(0, 12)));
  const auto written = [&](const std::string& name, const std::string& more) {
    return folder.write(name + ".yaml",
                        fmt::format("model: {{path: {}, compute: f32}}\n"
                                    "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
                                    "train: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
                                    "export: {{merged: none, gguf: [], compare_samples: 2}}\n"
                                    "run: {{folder: {}}}\n{}",
                                    kModel, data, relative(folder.path / name), more));
  };
  const auto first = written(
      "first", "adapter: {kind: lora, rank: 2, targets: [q_proj]}\neval: {tasks: [{kind: perplexity}]}\n");
  const auto begun = retort("run '" + first + "'");
  ASSERT_EQ(begun.exit, 0) << begun.err;
  const auto questions = folder.write("questions.jsonl", R"({"problem": "1 and 1?", "solution": "2"})"
                                                         "\n");
  const auto held = folder.write("held.jsonl", sums(50, 52));
  const auto file =
      written("run", fmt::format("adapter: {{from: {}/}}\n"
                                 "teacher: {{path: {}, compute: f32}}\ndistill: {{loss: forward_kl}}\n"
                                 "eval: {{tasks: [{{kind: numeric, path: {}, max_tokens: 2}},\n"
                                 "                {{kind: perplexity, source: {{path: '{}/h*.jsonl'}}}}]}}\n",
                                 relative(folder.path / "first/export/adapter"), kModel, relative(questions),
                                 relative(folder.path)));
  const auto done = retort("run '" + file + "'");
  ASSERT_EQ(done.exit, 0) << done.err;

  const auto bom = read_json(folder.path / "run/export/adapter/bom.cdx.json");
  std::map<std::string, std::set<std::string>> hashes;  // of a component's files
  for (const auto& component : bom["components"]) {
    auto& all = hashes[component["bom-ref"].get<std::string>().substr(0, 5)];
    if (component.contains("hashes")) all.insert(component["hashes"][0]["content"].get<std::string>());
    if (component.contains("components"))
      for (const auto& part : component["components"])
        all.insert(part["hashes"][0]["content"].get<std::string>());
  }
  const auto adapter = folder.path / "first/export/adapter";
  EXPECT_EQ(hashes["adapt"], (std::set<std::string>{sha256_file(adapter / "adapter_config.json"),
                                                    sha256_file(adapter / "adapter_model.safetensors")}))
      << bom.dump(1);
  EXPECT_EQ(hashes["teach"], std::set<std::string>{sha256_file(fs::path(source_dir()) / kModel)});
  EXPECT_EQ(hashes["quest"], (std::set<std::string>{sha256_file(questions), sha256_file(held)}));
}

}  // namespace
}  // namespace retort
