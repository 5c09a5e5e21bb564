// Adapters of others from outside: exported without a run, merged by a recipe, trained on.
#include <numeric>

#include "adapters/load_adapter.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/run_program.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"   // tests/export
#include "formats/golden_file.h"  // tests/formats
#include "ops/tensors.h"          // tests/ops
#include "where.h"                // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(source_dir()) / "tests/golden/adapters";

std::string adapter(const std::string& name) { return (kGolden / name).string(); }

// How far a model's logits are from those of tools/golden/adapters.py.
double from_golden(const LoadedModel& loaded, const std::string& name) {
  const at::NoGradGuard no_grad;
  static const auto expected = open_safetensors(kGolden / "expected.safetensors");
  const auto* stored = expected.find("tokens");
  std::vector<int32_t> tokens(static_cast<size_t>(stored->elements()));
  std::memcpy(tokens.data(), stored->data.data(), stored->data.size());
  Forest forest;
  forest.add_segment(tokens);
  const auto pass = make_pass(forest, at::kFloat);
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  return distance(logits(loaded.model->hidden(pass), rows, loaded.model->head, pass),
                  tensor_of(expected, name));
}

std::string tiny_base(const Folder& folder) {
  return tiny_folder(folder.path / "base", "llama", tiny_tokenizer(96)).string();
}

// Two prompts of text, a few steps; `more` is what each test is about.
std::string recipe(const Folder& folder, const std::string& more) {
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += fmt::format("{{\"text\": \"sample {} of {}\"}}\n", i, 7 * i);
  return folder.write("r.yaml",
                      fmt::format("model: {{path: {}, compute: f32}}\n"
                                  "data: {{sources: [{{path: {}}}], template: plain, loss: all, "
                                  "held_out: {{count: 3}}}}\n"
                                  "train: {{steps: 2, threads: 1, batch: {{samples: 4}}}}\n"
                                  "eval: {{tasks: [{{kind: perplexity}}]}}\n"
                                  "run: {{folder: {}}}\n{}",
                                  (folder.path / "base").string(), folder.write("samples.jsonl", lines),
                                  (folder.path / "run").string(), more));
}

TEST(AdapterExport, WritesAWeightedSumInEveryFormat) {
  const Folder folder;
  const auto base = tiny_base(folder);
  const auto out = folder.path / "out";
  const auto result = retort(fmt::format(
      "export -m {} --adapter {}=0.7 --adapter {}=-0.3 -o {} --merged f32 --gguf F32 --gguf Q8_0 --peft "
      "--gguf-adapter --threads 1 --compute f32",
      base, adapter("patterns"), adapter("rslora"), out.string()));
  ASSERT_EQ(result.exit, 0) << result.err << result.out;
  EXPECT_LT(from_golden(load_model({.path = out / "merged"}), "weighted"), 1e-5);
  EXPECT_LT(from_golden(load_model({.path = out / "model-F32.gguf"}), "weighted"), 1e-5);
  // Quantized once, from the sum in fp32.
  auto sum = load_model({.path = base});
  load_adapters(sum, {{adapter("patterns"), 0.7}, {adapter("rslora"), -0.3}});
  write_gguf_model(folder.path / "sum.gguf", sum, *mixture_from_name("Q8_0"), true, 1);
  EXPECT_EQ(sha256_file(out / "model-Q8_0.gguf"), sha256_file(folder.path / "sum.gguf"));
  for (const char* name : {"adapter", "adapter.gguf"}) {
    auto loaded = load_model({.path = base});
    load_adapter(loaded, out / name);
    EXPECT_LT(from_golden(loaded, "weighted"), 1e-5) << name;
  }
  EXPECT_TRUE(fs::exists(out / "model-Q8_0.Modelfile"));
  const auto record = read_json(out / "export.json");
  EXPECT_EQ(record["adapters"][1], "-0.3 x " + adapter("rslora"));
  ASSERT_EQ(record["exports"].size(), 5u);
  for (const auto& one : record["exports"]) {
    const auto kl = one["agreement"]["kl_nats"].get<double>();
    EXPECT_GT(one["agreement"]["rows"], 100);
    if (one["artefact"]["label"] == "Q8_0") EXPECT_GT(kl, 1e-7);
    else EXPECT_LT(kl, 1e-6) << one.dump();
  }
  expect_one_line(retort(fmt::format("export -m {} -o {} --merged f32", base, out.string())), 2,
                  fmt::format("retort: {}: is there already; name a folder that is not", out.string()));
}

TEST(AdapterExport, SaysWhatIsWrongBeforeAnythingIsWritten) {
  const Folder folder;
  const auto base = tiny_base(folder), out = (folder.path / "out").string();
  const auto says = [&](const std::string& arguments, const std::string& line) {
    const auto result = retort("export " + arguments);
    EXPECT_EQ(result.exit, 2) << result.err;
    EXPECT_NE(result.err.find(line), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(out));
  };
  const auto plain = fmt::format("-m {} -o {} ", base, out);
  says("", "expected a recipe, or --model with what is written");
  says("--adapter " + adapter("mlx"), "--model: missing");
  says(plain, "nothing to write: name --merged TYPE");
  says("-m " + base + " --merged f32", "--output: missing");
  says(plain + "--peft", "name one with --adapter");
  says(plain + "--merged f32 --adapter " + adapter("mlx") + "=half",
       "expected PATH or PATH=WEIGHT with a number as weight");
  says(plain + "--merged f32 --adapter no/such", "no/such");
  says(plain + "--merged f31", "one of none, f32");
  says(plain + "--gguf Q4_K_M --no-fallback", "export.fallback");
  says(fmt::format("r.yaml -m {} -o {} --merged f32", base, out), "a recipe does not go with it");
}

TEST(AdapterRecipe, ExportsMergedAdaptersWithoutTraining) {
  const Folder folder;
  tiny_base(folder);
  const auto file = recipe(
      folder,
      fmt::format("adapter: {{kind: none, merge: [{{path: {}, weight: 0.7}}, {{path: {}, weight: -0.3}}]}}\n"
                  "export: {{merged: f32, gguf: [F32]}}\n",
                  adapter("patterns"), adapter("rslora")));
  const auto checked = retort("check " + file);
  EXPECT_EQ(checked.exit, 0) << checked.err;
  EXPECT_NE(checked.out.find("-0.3 x " + adapter("rslora")), std::string::npos) << checked.out;
  const auto result = retort("run " + file);
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_LT(from_golden(load_model({.path = folder.path / "run/export/merged"}), "weighted"), 1e-5);
  EXPECT_LT(from_golden(load_model({.path = folder.path / "run/export/model-F32.gguf"}), "weighted"), 1e-5);
  EXPECT_NE(read_text(folder.path / "run/report.html").find("+ 0.7 x "), std::string::npos);
}

// Every weight trained from the merged ones.
TEST(AdapterRecipe, TrainsOnTopOfMergedAdapters) {
  const Folder folder;
  tiny_base(folder);
  const auto file = recipe(folder, fmt::format("adapter: {{kind: lora, rank: 2, merge: [{{path: {}}}]}}\n"
                                               "export: {{adapter: false, merged: f32, gguf: []}}\n",
                                               adapter("patterns")));
  const auto result = retort("run " + file + " train.optimizer.learning_rate=1e-9");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_LT(from_golden(load_model({.path = folder.path / "run/export/merged"}), "patterns"), 1e-4);
}

TEST(AdapterRecipe, GoesOnFromAnAdapter) {
  const Folder folder;
  const auto base = tiny_base(folder);
  fs::copy(adapter("patterns"), folder.path / "start");
  const auto start = (folder.path / "start").string();
  const auto file =
      recipe(folder, fmt::format("adapter: {{from: {}}}\nexport: {{merged: none, gguf: []}}\n", start));
  const auto checked = retort("check " + file);
  EXPECT_EQ(checked.exit, 0) << checked.err;
  EXPECT_NE(checked.out.find("starts from  " + start + ": lora, rank 2, alpha 6, 6 layers"),
            std::string::npos)
      << checked.out;
  const auto result = retort("run " + file + " train.optimizer.learning_rate=1e-9");
  ASSERT_EQ(result.exit, 0) << result.err;
  auto loaded = load_model({.path = base});
  load_adapter(loaded, folder.path / "run/export/adapter");
  EXPECT_LT(from_golden(loaded, "patterns"), 1e-4);  // at that rate it is still where it started
  EXPECT_NE(read_text(folder.path / "run/report.html").find("The training started from the adapter " + start),
            std::string::npos);
  const auto resolved = read_text(folder.path / "run/recipe.yaml");
  EXPECT_NE(resolved.find("rank: 2"), std::string::npos) << resolved;
  EXPECT_EQ(retort("verify " + (folder.path / "run").string()).exit, 0);

  // Another adapter in its place is another training, which is said and changes nothing.
  auto config = read_json(folder.path / "start/adapter_config.json");
  config["lora_dropout"] = 0.5;
  write_text(folder.path / "start/adapter_config.json", config.dump());
  const auto other = retort("run " + file + " train.optimizer.learning_rate=1e-9 adapter.dropout=0");
  EXPECT_EQ(other.exit, 2) << other.err;
  EXPECT_NE(other.err.find("adapter that it starts from: "), std::string::npos) << other.err;
}

TEST(AdapterRecipe, AStartThatDoesNotFitIsRefusedByCheck) {
  const Folder folder;
  tiny_base(folder);
  const auto says = [&](const std::string& section, const std::string& line) {
    const auto result = retort("check " + recipe(folder, "adapter: {" + section + "}\n"));
    EXPECT_EQ(result.exit, 2) << result.err;
    EXPECT_NE(result.err.find(line), std::string::npos) << result.err;
  };
  const auto from = "from: " + adapter("rslora");
  says(from + ", targets: [q_proj]",
       "adapts model.layers.0.mlp.up_proj, which is not named here; leave the key out");
  says(from + ", targets: [q_proj, up_proj, k_proj]", "names model.layers.0.self_attn.k_proj, which ");
  says(from + ", modules_to_save: [lm_head]", "holds no layer named 'lm_head'");
  says(from + ", rank: 16", "adapter.rank: the adapter that it starts from");
}

TEST(AdapterGenerate, TakesSeveralWeightedAdapters) {
  const Folder folder;
  const auto base = tiny_base(folder);
  const auto answer = [&](const std::string& adapters) {
    const auto result = retort(
        fmt::format("generate -m {} --raw --compute f32 --max-tokens 8 --ignore-ends --threads 1 abc {}",
                    base, adapters));
    EXPECT_EQ(result.exit, 0) << result.err;
    return result.out;
  };
  const auto one = "--adapter " + adapter("patterns"), other = "--adapter " + adapter("rslora");
  EXPECT_NE(answer(""), answer(one));
  EXPECT_EQ(answer(one), answer(one + "=1 " + other + "=0"));
  EXPECT_EQ(answer(one + " " + other), answer(other + " " + one));
  EXPECT_EQ(answer(""), answer(one + "=0"));
}

}  // namespace
}  // namespace retort
