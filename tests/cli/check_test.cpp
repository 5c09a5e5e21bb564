// `retort check` from outside.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "cli/run_program.h"
#include "where.h"  // tests

namespace retort {

namespace {

constexpr const char* kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

std::string recipe(const std::string& more) {
  return "model: {path: " + std::string(kModel) +
         "}\ndata:\n  sources:\n    - {path: data/samples/beekeeping.jsonl}\n  held_out: {count: 2}\n" + more;
}

}  // namespace

TEST(Check, ShowsSamplesAndPredicts) {
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel))
    GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write(
      "r.yaml",
      recipe("train: {steps: 3, batch: {samples: 4}}\neval: {tasks: [{kind: completion}]}\nrun: {folder: " +
             (folder.path / "run").string() + "}\n"));
  const auto result = retort("check '" + file + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.out.find("samples: 14 to train on, 2 held out, of 16 records"), std::string::npos)
      << result.out;
  for (const char* line :
       {"source 0: 16 records of data/samples/beekeeping.jsonl: 14 to train on, used 1 times in an epoch, "
        "0.8571 in all; 2 held out\n",
        "groups: 16 (data.sources.group names none: each record is one, equal records share one), 2 of them "
        "held out\n",
        "epochs: 0.8571 (passes over the training samples)\n"})
    EXPECT_NE(result.out.find(line), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\u27e6It is a grid between brood box and supers."), std::string::npos)
      << result.out;  // the first answer, which is learned
  EXPECT_NE(result.out.find("<|im_end|>\u27e7"), std::string::npos);
  EXPECT_NE(result.out.find("eval         completion: completion, 2 of the held-out samples\n"),
            std::string::npos)
      << result.out;
  for (const char* line : {"\ntraining     lora of 4.88 million weights in 3 steps", "\nmemory       about ",
                           "\ndisk         about ", "\ntime         about "})
    EXPECT_NE(result.out.find(line), std::string::npos) << line;
  EXPECT_NE(result.out.find(" of opening and comparing the exports"), std::string::npos) << result.out;
  EXPECT_FALSE(std::filesystem::exists(folder.path / "run"));  // nothing is written

  const auto json = parse_json(retort("check '" + file + "' --json --no-step").out, "output");
  EXPECT_EQ(json.at("steps"), 3);
  EXPECT_EQ(json.at("trainable_elements"), 4884480);
  EXPECT_GT(json.at("peak_bytes").get<uint64_t>(), uint64_t{200} << 20);
}

TEST(Check, DividesARecipeAmongRanks) {
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel))
    GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto text =
      recipe("train: {steps: 3, threads: 1, batch: {samples: 14, pass_tokens: 64}}\nrun: {folder: " +
             (folder.path / "run").string() + "}\n");
  const auto check = "check '" + folder.write("r.yaml", text) + "' --samples 0 --no-step ";
  const auto list = [&](const std::string& more) {
    return folder.write("machines.yaml", "machines:\n  - {name: node, count: 2, threads: 2, " + more + "}\n");
  };
  const auto large = list("memory: 64GiB, latency_us: 0, copy_gbytes: 8");
  const auto json = parse_json(
      retort(check + "--json --step-seconds 9 --undivided-seconds 1 --ranks 1 --machines '" + large + "'")
          .out,
      "output");
  const auto& ranks = json.at("ranks");
  EXPECT_EQ(ranks.at("message_bytes"), 4.0 * json.at("trainable_elements").get<double>());
  EXPECT_EQ(ranks.at("one_rank_seconds"), 10);
  EXPECT_GT(ranks.at("forests").get<int64_t>(), 2);
  const auto& two = ranks.at("planned");
  EXPECT_EQ(two.at("ranks"), 2);
  EXPECT_LT(two.at("step_seconds"), 10);
  EXPECT_GT(two.at("step_seconds"), 5.5);  // half of 9, and what is not divided
  // Rank 0 needs what one process needs and a message.
  EXPECT_EQ(two.at("machines")[0].at("memory_bytes").get<uint64_t>(),
            json.at("peak_bytes").get<uint64_t>() + ranks.at("message_bytes").get<uint64_t>());

  const auto small = retort(check + "--step-seconds 9 --ranks 1 --machines '" + list("memory: 10MiB") + "'");
  EXPECT_EQ(small.exit, 3);
  EXPECT_TRUE(small.err.starts_with("retort: node-1: 1 rank needs about ")) << small.err;
  EXPECT_EQ(std::count(small.err.begin(), small.err.end(), '\n'), 1) << small.err;
  expect_one_line(retort(check + "--ranks 2"), 2,
                  "retort: --no-step: ranks are planned from the time of a step; leave it out, or say "
                  "--step-seconds");
  expect_one_line(retort(check + "--step-seconds 9"), 2,
                  "retort: --step-seconds and --undivided-seconds are of --ranks or --machines; say one of "
                  "these");
  expect_one_line(retort(check + "--ranks 2 --step-seconds inf"), 2,
                  "retort: --step-seconds and --undivided-seconds: expected 0 or more seconds");
  // Before anything is loaded.
  const auto absent = retort(check + "--step-seconds 9 --machines no/such.yaml model.path=no/such.gguf");
  EXPECT_EQ(absent.exit, 2);
  EXPECT_NE(absent.err.find("no/such.yaml"), std::string::npos) << absent.err;
  const auto layers = retort(check + "--ranks 2 --step-seconds 9 model.schedule=layers");
  EXPECT_EQ(layers.exit, 2);
  EXPECT_NE(layers.err.find("model.schedule: layers: retort-ranks cannot divide that"), std::string::npos)
      << layers.err;
}

TEST(Check, SaysThatTheRateNeverReachesItsPeak) {
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel))
    GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto out = [&](const char* warm_up) {
    const auto file = folder.write("r.yaml", recipe("train: {steps: 3, batch: {samples: 4}, schedule: {" +
                                                    std::string(warm_up) + "}}\n"));
    return retort("check '" + file + "' --no-step --samples 0").out;
  };
  EXPECT_NE(out("warmup_steps: 5").find("warm-up      5 steps of it in a run of 3: the learning rate never"),
            std::string::npos);
  EXPECT_EQ(out("warmup_steps: 3").find("warm-up"), std::string::npos);
}

// 8192 tokens are what this model was made for.
TEST(Check, NamesSamplesThatAreLongerThanTheContext) {
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel))
    GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  std::string words, lines;
  for (int i = 0; i < 9000; ++i) words += "bee ";
  const auto record = [&](const std::string& prompt, const std::string& answer) {
    lines += OrderedJson{{"prompt", prompt}, {"completion", answer}}.dump() + "\n";
  };
  for (int i = 0; i < 4; ++i) record("What is comb " + std::to_string(i) + "?", "Wax.");
  record("Write a lot.", words);
  const auto data = folder.write("long.jsonl", lines);
  const auto check = [&](const std::string& more) {
    return retort("check '" + folder.write("r.yaml", recipe(more)) +
                  "' --samples 0 --no-step data.sources.0.path=" + data +
                  " data.sample_tokens=12000 train.recompute=true train.threads=1 data.held_out.count=0 "
                  "data.held_out.fraction=0");
  };
  const auto named = check("");
  EXPECT_EQ(named.exit, 0) << named.err;
  EXPECT_NE(named.out.find(
                "context      1 of 5 training samples are longer than the model's context of 8192 tokens"),
            std::string::npos)
      << named.out;
  EXPECT_NE(named.out.find("long.jsonl:5"), std::string::npos) << named.out;

  // A prompt without room for an answer would end the evaluation after the training.
  record(words, "Long.");
  folder.write("long.jsonl", lines);
  folder.write("last.jsonl", OrderedJson{{"prompt", words}, {"completion", "Long."}}.dump() + "\n");
  const auto refused = retort(
      "check '" +
      folder.write("r.yaml", "model: {path: " + std::string(kModel) + "}\ndata:\n  sample_tokens: 12000\n" +
                                 "  sources:\n    - {path: data/samples/beekeeping.jsonl, use: train}\n" +
                                 "    - {path: " + (folder.path / "last.jsonl").string() +
                                 ", use: held_out}\neval: {tasks: [{kind: completion}]}\n") +
      "' --samples 0 --no-step");
  EXPECT_EQ(refused.exit, 2) << refused.out;
  EXPECT_NE(refused.err.find("last.jsonl:1: 9"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("leave no room for an answer in the model's context of 8192 tokens"),
            std::string::npos)
      << refused.err;
}

TEST(Check, RefusesWhatWouldFailLater) {
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel))
    GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto refused = [&](const std::string& more) {
    const auto result = retort("check '" + folder.write("r.yaml", recipe(more)) + "' --samples 0");
    EXPECT_EQ(result.exit, 2);
    return result.err;
  };
  EXPECT_EQ(
      refused(
          "eval: {tasks: [{kind: completion}]}\ngate: [{metric: completion.exact_mach, at_least: 0.5}]\n"),
      "retort: gate[0].metric: no task measures 'completion.exact_mach'; did you mean "
      "'completion.exact_match'?\n");
  EXPECT_NE(refused("eval: {tasks: [{kind: code}]}\n")
                .find("eval.tasks[0].path: missing; code needs a question file"),
            std::string::npos);
  EXPECT_NE(refused("train: {stepz: 3}\n").find("train.stepz: unknown key; did you mean 'steps'?"),
            std::string::npos);
  EXPECT_NE(refused("adapter: {targets: [q_prj]}\n").find("did you mean 'q_proj'?"), std::string::npos);
  const auto other = refused("adapter: {targets: [query_key_value]}\n");
  EXPECT_NE(other.find("is named 'query_key_value'; it has "), std::string::npos) << other;
  EXPECT_NE(other.find("q_proj, "), std::string::npos) << other;
  EXPECT_NE(other.find("; or write [all]\n"), std::string::npos) << other;
  EXPECT_NE(refused("export: {gguf: [q4_k_m]}\n").find("did you mean 'Q4_K_M'?"), std::string::npos);
  const auto shorter =
      retort("check '" + folder.write("r.yaml", recipe("")) + "' --samples 0 data.sample_tokens=16");
  EXPECT_EQ(shorter.exit, 2);
  EXPECT_NE(
      shorter.err.find("but data.sample_tokens is 16; raise it, or set data.length to skip or cut [E4]\n"),
      std::string::npos)
      << shorter.err;
}

}  // namespace retort
