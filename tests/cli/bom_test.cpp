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
  const auto data = folder.write("sums.jsonl", samples);
  const auto run = folder.path / "run";
  const auto file =
      folder.write("r.yaml", fmt::format("model: {{path: {}, compute: f32}}\n"
                                         "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
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

}  // namespace
}  // namespace retort
