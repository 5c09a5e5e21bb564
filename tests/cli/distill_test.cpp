// Runs with a teacher, of the built program on SmolLM2 and a handful of samples of our own.
#include "base/json.h"
#include "export/tiny_models.h"  // tests/export
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

std::string recipe(const Folder& folder, const std::string& teacher) {
  std::string lines;
  for (int i = 0; i < 16; ++i)
    lines += fmt::format("{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"{}\"}}\n", i + 1,
                         4 * (i + 1));
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "prune: {{layers: 2}}\n{}"
      "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
      "adapter: {{kind: full}}\n"
      "train: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
      "export: {{merged: none, gguf: [Q4_K_M], adapter: false, compare_samples: 2}}\n"
      "run: {{folder: {}}}\n",
      kModel, teacher, folder.write("samples.jsonl", lines), (folder.path / "run").string());
}
const auto kTeacher = fmt::format(
    "teacher: {{path: {}, compute: f32}}\ndistill: {{loss: forward_kl, own_answers: {{max_tokens: 8}}}}\n",
    kModel);

TEST(DistilledRun, EndsWithAStudentAndATableOfWhatIsLeftOfTheTeacher) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder, kTeacher));
  const auto first = retort("run '" + file + "'");
  ASSERT_EQ(first.exit, 0) << first.err;
  const auto table = first.out.find("What is left of the teacher");
  ASSERT_NE(table, std::string::npos) << first.out;
  for (const auto* name : {"\nbase ", "\nce-only ", "\ndistilled ", "\nteacher "})
    EXPECT_NE(first.out.find(name, table), std::string::npos) << name << first.out;
  EXPECT_NE(first.out.find("KL(s||t) own", table), std::string::npos) << first.out;
  for (const auto* name : {"teacher/part-00000.h5", "trained.safetensors", "ce-only/trained.safetensors",
                           "export/model-Q4_K_M.gguf", "report.html"})
    EXPECT_TRUE(fs::exists(folder.path / "run" / name)) << name;
  EXPECT_NE(retort("inspect '" + (folder.path / "run/export/model-Q4_K_M.gguf").string() + "'")
                .out.find("llama.block_count = 2"),
            std::string::npos);

  // A cut base is in no file; a student of two layers, every weight trained, is smaller than its source was
  // in bf16.
  const auto tasks = retort("eval '" + file + "' 'eval.tasks=[{kind: perplexity}]'");
  ASSERT_EQ(tasks.exit, 0) << tasks.err;
  char base_size[16] = "";
  double tuned_size = 0;
  ASSERT_EQ(std::sscanf(tasks.out.c_str(),
                        "%*[^\n]\nbase %*s %*s %*s %*s %15s %*[^\n]\ntuned %*s %*s %*s %*s %lf MiB",
                        base_size, &tuned_size),
            2)
      << tasks.out;  // perplexity, KL, top-1, rated, size
  EXPECT_STREQ(base_size, "-") << tasks.out;
  EXPECT_GT(tuned_size, 100) << tasks.out;
  EXPECT_LT(tuned_size, 200) << tasks.out;

  const auto second = retort("run '" + file + "'");
  EXPECT_EQ(second.exit, 0) << second.err;
  const auto without_ledger = [](std::string text) {  // the evaluation between them stands in it
    const auto line = text.find("\nledger ");
    return text.erase(line + 1, text.find('\n', line + 1) - line);
  };
  EXPECT_EQ(without_ledger(second.out), without_ledger(first.out));
  const auto taught = retort("teach '" + file + "'");
  EXPECT_EQ(taught.exit, 0) << taught.err;
  EXPECT_NE(taught.out.find("nothing was missing"), std::string::npos) << taught.out;

  // Each student's own answers: in the record and on the page, and the same with the same seed.
  const auto own_answers = [&] {
    std::vector<Json> found;
    const auto record = read_json(folder.path / "run/stages.json");
    for (const auto& model : record.at("stages").at("compare with teacher").at("values").at("models"))
      found.push_back(model.value("own_answers", Json()));
    return found;
  };
  const auto own = own_answers();
  ASSERT_EQ(own.size(), 4u);
  EXPECT_TRUE(own[3].is_null());  // the teacher
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(own[i].at("answers"), 4);
    EXPECT_LE(own[i].at("tokens").get<int64_t>(), 4 * 8);
    EXPECT_GT(own[i].at("reverse_kl").get<double>(), 0);
    EXPECT_NE(first.out.find(fmt::format("{:.4f}", own[i].at("reverse_kl").get<double>()), table),
              std::string::npos)
        << first.out;
  }
  EXPECT_NE(read_text(folder.path / "run/report.html").find("KL(s||t) own"), std::string::npos);
  const auto without = retort("run '" + file + "' distill.own_answers.count=0");
  ASSERT_EQ(without.exit, 0) << without.err;
  EXPECT_EQ(without.out.find("KL(s||t) own"), std::string::npos) << without.out;
  const auto train = without.err.find("\ntrain  ");
  ASSERT_NE(train, std::string::npos) << without.err;
  EXPECT_NE(without.err.substr(train, without.err.find('\n', train + 1) - train).find("(done before)"),
            std::string::npos)
      << without.err;  // nobody learns from them
  const auto again = retort("run '" + file + "'");
  ASSERT_EQ(again.exit, 0) << again.err;
  EXPECT_EQ(own_answers(), own);
}

TEST(DistilledRun, RefusesALossWithoutATeacherAndAnAdapterWithoutABase) {
  Folder folder;
  const auto alone =
      retort("run '" + folder.write("a.yaml", recipe(folder, "distill: {loss: reverse_kl}\n")) + "'");
  EXPECT_EQ(alone.exit, 2);
  EXPECT_NE(alone.err.find("distill: there is no teacher"), std::string::npos) << alone.err;
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const auto adapted =
      retort("run '" + folder.write("b.yaml", recipe(folder, kTeacher)) + "' adapter.kind=lora");
  EXPECT_EQ(adapted.exit, 2);
  EXPECT_NE(adapted.err.find("would have no base on disk"), std::string::npos) << adapted.err;
}

TEST(SequenceLevel, RejectedAnswersAreCountedInCheckAndInTheReport) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const std::string line =
      "data/samples/arithmetic-answers.jsonl: 28 of 60 records rejected: 4 unfinished, 4 too short, 4 "
      "matching reject.if_match, 8 with a wrong answer, 4 equal to another answer, "
      "4 beyond reject.answers_per_prompt";
  const auto options =
      fmt::format("recipes/small-sequence-level.yaml run.folder={} train.steps=1 'eval.tasks=[]' 'gate=[]'",
                  (folder.path / "run").string());
  const auto checked = retort("check --no-step " + options);
  ASSERT_EQ(checked.exit, 0) << checked.err;
  EXPECT_NE(checked.out.find("\nreject       " + line + "\n"), std::string::npos) << checked.out;
  EXPECT_NE(checked.out.find(", of 32 records"), std::string::npos) << checked.out;
  const auto run = retort("run " + options);
  ASSERT_EQ(run.exit, 0) << run.err;
  EXPECT_NE(read_text(folder.path / "run/report.html").find(line), std::string::npos);
  const auto nothing =
      retort("check --no-step " + options + " 'data.sources.0.reject.unless_match=no such words'");
  EXPECT_EQ(nothing.exit, 2);
  EXPECT_NE(nothing.err.find("data.sources[0].reject: nothing is left: "
                             "data/samples/arithmetic-answers.jsonl: 60 of 60 records rejected"),
            std::string::npos)
      << nothing.err;
}

// Before the hours, not after them: `check` and the start of `run` ask for what the teacher's samples need.
TEST(DistilledRun, ATeacherOfOtherTokensNeedsATemplate) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  const Folder folder;
  tiny_folder(folder.path / "teacher", "llama", tiny_tokenizer(96));
  const auto file = folder.write(
      "r.yaml", recipe(folder, fmt::format("teacher: {{path: {}, compute: f32}}\ndistill: {{}}\n",
                                           (folder.path / "teacher").string())));
  for (const auto* command : {"check --no-step ", "run "}) {
    const auto refused = retort(command + file);
    EXPECT_EQ(refused.exit, 2) << command;
    EXPECT_NE(refused.err.find("teacher.template: the model brings no chat template; set teacher.template to "
                               "one of "),
              std::string::npos)
        << refused.err;
    const auto live = retort(command + file + " teacher.template=chatml teacher.live=true");
    EXPECT_EQ(live.exit, 2) << command;
    EXPECT_NE(live.err.find("teacher.live: this teacher has another tokenizer"), std::string::npos)
        << live.err;
  }
  EXPECT_FALSE(fs::exists(folder.path / "run/trained.safetensors"));
}

// SmolLM2 (byte-level BPE) teaches two of its layers with Mistral's SentencePiece vocabulary.
TEST(DistilledRun, ATeacherMayHaveAnotherTokenizer) {
  const fs::path tokenizer = "third_party/inputs/mistral/mistral_common/data/tokenizer.model.v1";
  if (!model_is_there() || !fs::exists(fs::path(source_dir()) / tokenizer))
    GTEST_SKIP() << "run tools/setup inputs";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder, kTeacher));
  const auto ran = retort("run '" + file + "' prune.tokenizer=" + tokenizer.string() +
                          " data.template=mistral-v1 'eval.tasks=[{kind: perplexity}]'");
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.err.find("The teacher has another tokenizer: its probabilities are carried to the student's "
                         "tokens by bytes."),
            std::string::npos)
      << ran.err;
  const auto heard = ran.err.find("It is heard at ");
  ASSERT_NE(heard, std::string::npos) << ran.err;
  int64_t at = 0, of = 0;
  double mass = 0;
  ASSERT_EQ(std::sscanf(ran.err.c_str() + heard, "It is heard at %ld of %ld positions; there %lf %%", &at,
                        &of, &mass),
            3)
      << ran.err;
  EXPECT_GT(at, of / 2);
  EXPECT_GT(mass, 90);
  const auto table = ran.out.find("What is left of the teacher");
  ASSERT_NE(table, std::string::npos) << ran.out;
  for (const auto* name : {"\nce-only ", "\ndistilled ", "\nteacher "}) {
    const auto row = ran.out.find(name, table);
    ASSERT_NE(row, std::string::npos) << name << ran.out;
    EXPECT_NE(ran.out.substr(row, 60).find(" - "), std::string::npos)
        << ran.out;  // nothing to compare token by token
  }
  const auto overrides = "'" + file + "' prune.tokenizer=" + tokenizer.string() +
                         " data.template=mistral-v1 'eval.tasks=[{kind: perplexity}]'";
  const auto taught =
      retort("teach " + overrides);  // finds the run's cache: the same samples in the teacher's tokens
  EXPECT_EQ(taught.exit, 0) << taught.err;
  EXPECT_NE(taught.out.find("nothing was missing"), std::string::npos) << taught.out;
  EXPECT_EQ(retort("check " + overrides).exit, 0);
  const auto refused =
      retort("run '" + file + "' prune.tokenizer=" + tokenizer.string() +
             " data.template=mistral-v1 distill.alignment=tokens run.folder=" + (folder.path / "b").string());
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("its tokenizer is not the student's: token "), std::string::npos) << refused.err;
}

// Rounds from a recipe: the student answers whole prompts, and what is learned are its answers alone.
TEST(DistilledRun, AStudentLearnsFromItsOwnAnswersInRounds) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const std::string command =
      "run '" + folder.write("r.yaml", recipe(folder, kTeacher)) +
      "' 'export.gguf=[]' distill.baseline=false distill.own_answers.count=0 distill.loss=reverse_kl " +
      "distill.on_policy.rounds=2 distill.on_policy.prompts=4 distill.on_policy.data_share=0 "
      "distill.on_policy.max_tokens=8";
  const auto ran = retort(command);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  for (int round = 0; round < 2; ++round) {
    const auto line = ran.err.find(fmt::format("round {}: ", round));
    ASSERT_NE(line, std::string::npos) << ran.err;
    int answers = 0, tokens = 0, positions = 0;
    ASSERT_EQ(
        std::sscanf(ran.err.c_str() + line, "round %*d: %d answers of %d tokens in %*[^,], %d positions",
                    &answers, &tokens, &positions),
        3)
        << ran.err.substr(line, 200);
    EXPECT_EQ(answers, 4);
    EXPECT_LE(tokens, 4 * 8);
    EXPECT_GE(positions, tokens);  // an answer's end is graded too
    EXPECT_LE(positions, tokens + answers);
    EXPECT_TRUE(fs::exists(folder.path / fmt::format("run/round-{:02}/teacher/part-00000.h5", round)));
  }
  EXPECT_TRUE(fs::exists(folder.path / "run/trained.safetensors"));

  // Finished rounds are another training's where the recipe is another.
  const auto other = retort(command + " train.optimizer.learning_rate=0.5");
  EXPECT_EQ(other.exit, 2) << other.err;
  EXPECT_NE(other.err.find("run/round-00: this round was made otherwise (train.optimizer.learning_rate: "),
            std::string::npos)
      << other.err;
  EXPECT_EQ(retort("verify '" + (folder.path / "run").string() + "'").exit, 0);
}

TEST(DistilledRun, RefusesFeaturesFromACache) {
  Folder folder;
  const auto refused = retort("run '" + folder.write("r.yaml", recipe(folder, kTeacher)) +
                              "' 'distill.features=[{kind: hidden, student: 1, teacher: 29}]'");
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("distill.features: a cache keeps no features; set teacher.live to true"),
            std::string::npos)
      << refused.err;
}

TEST(DistilledRun, ATeacherThatCannotTeachIsRefusedBeforeAnythingIsWritten) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder, kTeacher));
  expect_one_line(retort("run '" + file + "' teacher.path=no.gguf"), 2,
                  "retort: teacher.path: no.gguf: no such file or folder; expected a .gguf file, or a folder "
                  "with config.json and *.safetensors, on this machine (nothing is downloaded) [E7]");
  expect_one_line(retort("run '" + file + "' teacher.path=my/export/runs/no-teacher/export/merged"), 2,
                  "retort: teacher.path: my/export/runs/no-teacher/export/merged: no such file or folder; "
                  "an export of my/export/runs/no-teacher: first run the recipe that writes there");
  expect_one_line(
      retort("run '" + file +
             "' teacher.live=true 'distill.features=[{kind: hidden, student: 1, teacher: 30}]'"),
      2, "retort: distill.features[0].teacher: layer 30 is asked for; the teacher has 30, counted from 0");
  expect_one_line(retort("run '" + file + "' prune.layers=0 'prune.keep_layers=[0, 30]'"), 2,
                  "retort: prune.keep_layers: layer 30 is asked for; the model has 30, counted from 0");
  EXPECT_FALSE(fs::exists(folder.path / "run"));
}

TEST(DistilledRun, FeaturesOfALiveTeacherTrainAndLeaveNothingBehind) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto ran = retort("run '" + folder.write("r.yaml", recipe(folder, kTeacher)) +
                          "' teacher.live=true distill.baseline=false train.steps=1 'export.gguf=[]' " +
                          "'distill.features=[{kind: hidden, student: 1, teacher: 29}, {kind: attention, "
                          "student: 1, teacher: 29}]'");
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const auto inspected = retort("inspect '" + (folder.path / "run/trained.safetensors").string() + "'");
  EXPECT_EQ(inspected.out.find("projection"), std::string::npos) << inspected.out;
}

TEST(PruneCommand, WritesAModelFolderThatRuns) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder, ""));
  const auto student = (folder.path / "student").string();
  const auto pruned = retort("prune '" + file + "' '" + student + "'");
  ASSERT_EQ(pruned.exit, 0) << pruned.err;
  EXPECT_NE(pruned.out.find("layers 2 of 30: 0 29; spread evenly"), std::string::npos) << pruned.out;
  EXPECT_EQ(retort("prune '" + file + "' '" + student + "'").exit, 2);  // is there already
  EXPECT_EQ(retort("generate --model '" + student + "' hello --max-tokens 3").exit, 0);
}

}  // namespace
}  // namespace retort
