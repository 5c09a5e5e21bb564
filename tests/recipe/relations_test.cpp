// Sections that must fit each other: each misfit is named at its place.
#include <gtest/gtest.h>

#include "base/error.h"
#include "recipe/recipe.h"

namespace retort {

namespace {

std::string error_of(const std::string& text) {
  try {
    parse_recipe("model: {path: a.gguf}\n" + text, "r.yaml");
  } catch (const RecipeError& error) { return error.what(); }
  return "accepted";
}

}  // namespace

TEST(Relations, GatesNameWhatIsMeasured) {
  const std::string tasks = "eval: {tasks: [{kind: completion}]}\n";
  EXPECT_EQ(error_of(tasks + "gate: [{metric: completion.exact_match, at_least: 0.5}]"), "accepted");
  EXPECT_EQ(error_of(tasks + "gate: [{metric: comparison.kl_nats, at_most: 0.1}]"), "accepted");
  EXPECT_NE(error_of(tasks + "gate:\n  - {metric: complation.exact_match, at_least: 0.5}")
                .find("r.yaml:4:14: gate[0].metric: no task of eval.tasks is named 'complation'; did you "
                      "mean 'completion'?"),
            std::string::npos);
  EXPECT_NE(error_of(tasks + "gate: [{metric: completion.f1}]").find("has no bound"), std::string::npos);
  EXPECT_NE(error_of(tasks + "gate: [{metric: comparison.top1, model: tuned, at_least: 0.5}]")
                .find("gate[0].model"),
            std::string::npos);
  EXPECT_NE(
      error_of(tasks + "gate: [{metric: completion.f1, at_least: 0.5}]\nexport: {merged: none, gguf: []}")
          .find("no model is exported"),
      std::string::npos);
}

TEST(Relations, CanariesAreToldApartMeasuredAndSeenByTheirGate) {
  const auto error = [](const std::string& canaries, const std::string& rest) {
    return error_of("data: {canaries: {" + canaries + "}}\n" + rest);
  };
  const std::string tasks = "eval: {tasks: [{kind: exposure}]}\n";
  const std::string gate = "gate: [{metric: exposure.max_exposure, at_most: ";
  EXPECT_EQ(error("count: 8", tasks + gate + "9.5}]"), "accepted");
  EXPECT_NE(error("count: 8", "").find("data.canaries.count: nothing measures the canaries"),
            std::string::npos)
      << error("count: 8", "");
  EXPECT_NE(error("count: 8, text: secret", tasks).find("data.canaries.text: expected {random}"),
            std::string::npos);
  EXPECT_NE(error("count: 8, digits: 4, twins: 5000", tasks)
                .find("data.canaries.digits: 4 are too few for 8 canaries and 5000 twins"),
            std::string::npos);
  EXPECT_NE(error("count: 8", tasks + gate + "10}]")
                .find("gate[0].at_most: 10 always passes: with 1023 twins exposure is at most 10.00"),
            std::string::npos)
      << error("count: 8", tasks + gate + "10}]");
  EXPECT_NE(error("count: 0", tasks).find("exposure measures canaries, and none is planted"),
            std::string::npos);
}

TEST(Relations, WhatIsChosenByHeldOutLossNeedsSomethingHeldOut) {
  const std::string none = "data: {sources: [{path: a.jsonl}], held_out: {fraction: 0}}\n";
  const std::string best = "train: {evaluate: {every: 2, keep_best: true}}";
  EXPECT_NE(error_of(none + best)
                .find("r.yaml:3:19: train.evaluate.keep_best: the best weights are chosen by "
                      "held-out loss, and nothing is held out; set data.held_out.fraction"),
            std::string::npos)
      << error_of(none + best);
  EXPECT_NE(
      error_of(none + "train: {evaluate: {patience: 2}}").find("train.evaluate.patience: training ends"),
      std::string::npos);
  EXPECT_EQ(error_of("data: {sources: [{path: a.jsonl}]}\n" + best), "accepted");
  EXPECT_EQ(error_of("data: {sources: [{path: a.jsonl}, {path: b.jsonl, use: held_out}], "
                     "held_out: {fraction: 0}}\n" +
                     best),
            "accepted");
  EXPECT_EQ(error_of(none), "accepted");
}

TEST(Relations, NoFileIsLearnedAndHeldOut) {
  const auto found = error_of(
      "data:\n  sources:\n    - {path: a.jsonl, use: train}\n    - {path: a.jsonl, use: held_out}\n");
  EXPECT_NE(found.find("r.yaml:5:14: data.sources[1].path: 'a.jsonl' is held out here and learned by "
                       "data.sources[0]; name another file or split"),
            std::string::npos)
      << found;
  EXPECT_EQ(
      error_of(
          "data: {sources: [{path: a, split: train, use: train}, {path: a, split: test, use: held_out}]}"),
      "accepted");
  EXPECT_EQ(error_of("data: {sources: [{path: a.jsonl, use: held_out}, {path: a.jsonl, use: held_out}]}"),
            "accepted");
}

TEST(Relations, WholeTrainingStartsFromWeightsThatNothingRounded) {
  const std::string full = "adapter: {kind: full}\n";
  const auto error = [&](const std::string& weights) {
    try {
      parse_recipe("model: {path: a.gguf, weights: " + weights + "}\n" + full, "r.yaml");
    } catch (const RecipeError& problem) { return std::string(problem.what()); }
    return std::string("accepted");
  };
  EXPECT_NE(error("nf4").find("r.yaml:1:32: model.weights: nf4 rounds the weights, and adapter.kind: full"),
            std::string::npos)
      << error("nf4");
  for (const auto* weights : {"keep", "f32", "bf16"}) EXPECT_EQ(error(weights), "accepted") << weights;
}

TEST(Relations, TheDeviceIsTheCpuOrAGpu) {
  for (const auto* device : {"auto", "cpu", "cuda", "cuda:3"})
    EXPECT_EQ(error_of(std::string("device: ") + device), "accepted") << device;
  EXPECT_NE(
      error_of("device: gpu").find("r.yaml:2:9: device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
      std::string::npos)
      << error_of("device: gpu");
  EXPECT_EQ(error_of("device: auto\ndevice_memory: 60GiB"), "accepted");
  const auto no_size = error_of("device: cuda\ndevice_memory: most");
  EXPECT_NE(no_size.find("r.yaml:3:16: device_memory: expected a size such as 700MiB or 60GiB, found 'most'"),
            std::string::npos)
      << no_size;
  const auto no_gpu = error_of("device_memory: 60GiB");
  EXPECT_NE(no_gpu.find("r.yaml:2:16: device_memory: is memory of a GPU, and device is cpu"),
            std::string::npos)
      << no_gpu;
}

TEST(Relations, MemoryIsForModelsThatAreReadLayerByLayer) {
  const auto error = [](const std::string& model) {
    try {
      parse_recipe("model: {path: a.gguf, " + model + "}\n", "r.yaml");
    } catch (const RecipeError& problem) { return std::string(problem.what()); }
    return std::string("accepted");
  };
  EXPECT_EQ(error("schedule: layers, memory: 16GiB"), "accepted");
  EXPECT_EQ(error("memory: 16GiB"), "accepted");
  EXPECT_NE(error("memory: plenty")
                .find("r.yaml:1:31: model.memory: expected a size such as 700MiB or 16GiB, "
                      "found 'plenty'"),
            std::string::npos)
      << error("memory: plenty");
  EXPECT_NE(
      error("schedule: tokens, memory: 16GiB").find("r.yaml:1:49: model.memory: is for a model that is read"),
      std::string::npos)
      << error("schedule: tokens, memory: 16GiB");
  EXPECT_EQ(error("schedule: layers, scratch: /tmp"), "accepted");
  EXPECT_EQ(error("schedule: layers, scratch: /tmp, scratch_holds: activations"), "accepted");
  EXPECT_NE(error("schedule: layers, scratch_holds: activations")
                .find("model.scratch_holds: activations lie in the scratch folder, and there is none; set "
                      "model.scratch to a folder, or leave scratch_holds out"),
            std::string::npos);
  EXPECT_NE(error("schedule: tokens, scratch: /tmp").find("model.scratch: is for a model that is read"),
            std::string::npos);
}

TEST(Relations, TasksHaveNamesAndFiles) {
  EXPECT_NE(error_of("eval: {tasks: [{kind: completion}, {kind: completion}]}")
                .find("eval.tasks[1].name: 'completion' is taken"),
            std::string::npos);
  EXPECT_NE(error_of("eval: {tasks: [{kind: numeric}]}").find("eval.tasks[0].path: missing"),
            std::string::npos);
  EXPECT_NE(error_of("eval: {tasks: [{kind: code, path: a.jsonl, name: ../x}]}")
                .find("eval.tasks[0].name: expected letters"),
            std::string::npos);
}

TEST(Relations, ExportsFitTheAdapter) {
  EXPECT_EQ(error_of("export: {gguf_adapter: true}"), "accepted");
  EXPECT_EQ(error_of("adapter: {trainable_tokens: ['7'], trainable_tokens_head: true}"), "accepted");

  EXPECT_NE(
      error_of("adapter: {trainable_tokens_head: true}")
          .find("adapter.trainable_tokens_head: means the tokens of adapter.trainable_tokens, which lists"),
      std::string::npos);
  EXPECT_NE(error_of("adapter: {kind: dora}\nexport: {gguf_adapter: true}")
                .find("r.yaml:3:24: export.gguf_adapter"),
            std::string::npos);
  EXPECT_EQ(error_of("export: {merged: keep}"), "accepted");
  try {
    parse_recipe("model: {path: a, weights: nf4}\nexport: {merged: keep}", "r.yaml");
    ADD_FAILURE() << "nothing was refused";
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("r.yaml:2:18: export.merged: keep writes the base's own matrices, and "
                        "model.weights: nf4 trains on others"),
              std::string::npos)
        << error.what();
  }
  EXPECT_NE(error_of("export: {gguf: [Q8_0, Q8_0]}").find("export.gguf: 'Q8_0' is listed twice"),
            std::string::npos);
}

TEST(Relations, DistillationFitsItsTeacher) {
  const auto error = [](const std::string& teacher, const std::string& distill,
                        const std::string& rest = "") {
    return error_of("teacher: {path: t.gguf" + teacher + "}\ndistill: {" + distill + "}\n" + rest);
  };
  const auto expect = [](const std::string& found, const std::string& wanted) {
    EXPECT_NE(found.find(wanted), std::string::npos) << found;
  };
  EXPECT_EQ(error("", "on_policy: {rounds: 2}"), "accepted");
  EXPECT_EQ(error("", "on_policy: {rounds: 2}", "data: {loss: last_answer}"), "accepted");
  EXPECT_EQ(error("", "loss: forward_kl", "data: {loss: all}"), "accepted");
  expect(error("", "on_policy: {rounds: 2}", "data: {loss: all}"),
         "r.yaml:3:22: distill.on_policy: the student answers what stands before the first token");
  expect(error("", "alignment: bytes, on_policy: {rounds: 2}"),
         "distill.alignment: the student's own answers");
  expect(error(", live: true", "alignment: bytes"), "distill.alignment: bytes are carried from a cache");
  expect(error(", live: true", "loss: uld"), "distill.loss: uld compares with a cache");
  expect(error("", "loss: uld, on_policy: {rounds: 2}"), "distill.loss: uld has no rounds");
  expect(error("", "loss: uld, select: {by: entropy, at_least: 0.5}"),
         "distill.select: uld hears the teacher at every position");
  expect(error("", "features: [{kind: hidden, student: 1, teacher: 2}]"),
         "distill.features: a cache keeps no features");
  expect(error("", "on_policy: {rounds: 2}, features: [{kind: hidden, student: 1, teacher: 2}]"),
         "distill.features: rounds are graded into a cache");
}

TEST(Relations, ChosenMessagesAndEveryTokenDoNotGoTogether) {
  EXPECT_EQ(error_of("data: {train_on: {turns: last}}"), "accepted");
  EXPECT_EQ(error_of("data: {loss: all, train_on: {reasoning: strip}}"), "accepted");
  for (const char* chosen : {"turns: last", "tool_calls: false", "roles: [user, assistant]", "roles: [user]"})
    EXPECT_NE(error_of(std::string("data: {loss: all, train_on: {") + chosen + "}}")
                  .find("data.train_on: chooses messages, but data.loss is all"),
              std::string::npos)
        << chosen;
  EXPECT_NE(error_of("data: {train_on: {roles: []}}").find("roles"), std::string::npos);
  EXPECT_NE(error_of("data: {train_on: {roles: [human]}}").find("roles"), std::string::npos);
}

TEST(Relations, TrainOnSaysOfThoughtsWhatSourcesLeaveOpen) {
  const auto recipe = parse_recipe(
                          "model: {path: a.gguf}\n"
                          "data: {train_on: {reasoning: mask}, sources: [{path: a.jsonl}, {path: b.jsonl, "
                          "reasoning: learn}]}\n"
                          "eval: {tasks: [{kind: completion, source: {path: c.jsonl}}]}\n",
                          "r.yaml")
                          .recipe;
  EXPECT_EQ(recipe.data.sources[0].reasoning, "mask");
  EXPECT_EQ(recipe.data.sources[1].reasoning, "learn");
  EXPECT_EQ(recipe.eval.tasks[0].source->reasoning, "mask");
}

TEST(Relations, GatesMayAskTheTestAlone) {
  const std::string tasks = "eval: {tasks: [{kind: completion}]}\n";
  EXPECT_EQ(error_of(tasks + "gate: [{metric: completion.exact_match, against_base: better}]"), "accepted");
  EXPECT_NE(error_of(tasks + "gate: [{metric: comparison.top1, against_base: better}]")
                .find("gate[0].against_base: the base is not compared with itself"),
            std::string::npos);
}

TEST(Relations, AWarmUpIsSaidOnce) {
  EXPECT_EQ(error_of("train: {schedule: {warmup_share: 0.03}}"), "accepted");
  EXPECT_EQ(error_of("train: {schedule: {warmup_steps: 3}}"), "accepted");
  EXPECT_NE(
      error_of("train: {schedule: {warmup_steps: 3, warmup_share: 0.03}}")
          .find("r.yaml:2:19: train.schedule: warmup_steps: 3 and warmup_share: 0.03 both say how long"),
      std::string::npos)
      << error_of("train: {schedule: {warmup_steps: 3, warmup_share: 0.03}}");
}

TEST(Relations, HowOftenIsSaidInStepsOrInTimesOfAnEpoch) {
  EXPECT_EQ(error_of("train: {evaluate: {per_epoch: 4}, checkpoint: {per_epoch: 1}}"), "accepted");
  EXPECT_EQ(error_of("train: {evaluate: {every: 10}, checkpoint: {every: 100, per_epoch: 0}}"), "accepted");
  for (const char* section : {"evaluate", "checkpoint"}) {
    const auto said = error_of(fmt::format("train: {{{}: {{every: 10, per_epoch: 4}}}}", section));
    EXPECT_NE(said.find(fmt::format("train.{}: every: 10 counts steps and per_epoch: 4 counts times in an "
                                    "epoch; leave one of them out",
                                    section)),
              std::string::npos)
        << said;
  }
}

TEST(Relations, TheLayerBehindTheLastIsTrainedWhereItIsRead) {
  const auto error = [](const std::string& model, const std::string& rest) {
    try {
      parse_recipe("model: {path: a" + model + "}\n" + rest, "r.yaml");
    } catch (const RecipeError& problem) { return std::string(problem.what()); }
    return std::string("accepted");
  };
  const auto says = [&](const std::string& model, const std::string& rest, const std::string& expected) {
    const auto said = error(model, rest);
    EXPECT_NE(said.find(expected), std::string::npos) << said;
  };
  const std::string both = "adapter: {targets: [auto, mtp]}\n", read = ", mtp: true";
  EXPECT_EQ(error(read, both + "train: {mtp_weight: 0.3}"), "accepted");
  EXPECT_EQ(error(read, ""), "accepted");
  says("", both, "r.yaml:2:20: adapter.targets: 'mtp' is the layer behind the last");
  says(read, both + "train: {mtp_weight: 0}", "adapter.targets: 'mtp' learns nothing");
  says("", "train: {mtp_weight: 0.3}", "r.yaml:2:21: train.mtp_weight: the layer that it is for is not read");
  says(read, "teacher: {path: b}\ndistill: {}", "model.mtp: the token after the next is learned from texts");
  says(read, "prune: {layers: 2}", "model.mtp: the layer behind the last is no part of a pruned model");
}

}  // namespace retort
