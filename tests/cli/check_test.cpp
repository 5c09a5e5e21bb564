// `retort check` from outside.
#include <gtest/gtest.h>

#include "base/json.h"
#include "cli/run_program.h"

namespace retort {

namespace {

constexpr const char* kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

std::string recipe(const std::string& more) {
  return "model: {path: " + std::string(kModel) +
         "}\ndata:\n  sources:\n    - {path: data/samples/beekeeping.jsonl}\n  held_out: {count: 2}\n" + more;
}

}  // namespace

TEST(Check, ShowsSamplesAndPredicts) {
  if (!std::filesystem::exists(std::filesystem::path(RETORT_SOURCE_DIR) / kModel))
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
        "groups: 16 (none is named, so each record is one; equal records share one), 2 of them held out\n",
        "epochs: 0.8571\n"})
    EXPECT_NE(result.out.find(line), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\u27e6It is a grid between brood box and supers."), std::string::npos)
      << result.out;  // the first answer, supervised
  EXPECT_NE(result.out.find("<|im_end|>\u27e7"), std::string::npos);
  EXPECT_NE(result.out.find("eval         completion: completion, 2 of the held-out samples\n"),
            std::string::npos)
      << result.out;
  for (const char* line : {"\ntraining     lora of 4.88 million weights, 3 steps", "\nmemory       about ",
                           "\ndisk         about ", "\ntime         about "})
    EXPECT_NE(result.out.find(line), std::string::npos) << line;
  EXPECT_FALSE(std::filesystem::exists(folder.path / "run"));  // nothing is written

  const auto json = parse_json(retort("check '" + file + "' --json --no-step").out, "output");
  EXPECT_EQ(json.at("steps"), 3);
  EXPECT_EQ(json.at("trainable_elements"), 4884480);
  EXPECT_GT(json.at("peak_bytes").get<uint64_t>(), uint64_t{200} << 20);
}

TEST(Check, RefusesWhatWouldFailLater) {
  if (!std::filesystem::exists(std::filesystem::path(RETORT_SOURCE_DIR) / kModel))
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
}

}  // namespace retort
