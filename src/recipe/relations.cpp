#include "recipe/relations.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/byte_size.h"
#include "base/device_name.h"
#include "base/error.h"

namespace retort {

namespace {

bool is_file_name(const std::string& label) {
  return !label.starts_with('.') &&
         label.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
             std::string::npos;
}

// The place of `path` in the tree, or of the nearest enclosing node that was written.
class Places {
 public:
  explicit Places(const YamlNode& root) : root_(root) {}
  Place of(const char* section, const char* key) const {
    const auto* node = root_.find(section);
    if (!node) return root_.place;
    const auto* inner = node->find(key);
    return inner ? inner->place : node->place;
  }
  Place of_item(const YamlNode* list, size_t index, const char* key) const {
    if (!list || index >= list->items.size()) return list ? list->place : root_.place;
    const auto* inner = list->items[index].find(key);
    return inner ? inner->place : list->items[index].place;
  }

 private:
  const YamlNode& root_;
};

void check_tasks(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto* eval = root.find("eval");
  const auto* list = eval ? eval->find("tasks") : nullptr;
  const Places places(root);
  std::set<std::string> seen;
  for (size_t i = 0; i < recipe.eval.tasks.size(); ++i) {
    const auto& task = recipe.eval.tasks[i];
    const auto path = fmt::format("eval.tasks[{}]", i);
    const auto add = [&](const char* key, const std::string& text) {
      problems.push_back({places.of_item(list, i, key), fmt::format("{}.{}: {}", path, key, text)});
    };
    if (task.label() == kComparison)
      add("name",
          fmt::format("'{}' names the comparison of exports with the trained model; choose another name",
                      kComparison));
    if (!is_file_name(task.label()))
      add("name", "expected letters, digits, '-', '_' and '.'; files are named after it");
    if (!seen.insert(task.label()).second)
      add("name", fmt::format("'{}' is taken by an earlier task; give this one a name of its own",
                              printable(task.label())));
    const bool own_file = task.kind == "multiple_choice" || task.kind == "numeric" || task.kind == "code";
    if (own_file && task.path.empty())
      add("path", fmt::format("missing; {} needs a question file", task.kind));
    if (recipe.is_private && task.kind == "code" && !task.execute)
      add("execute",
          "false only writes the completions, and a private recipe keeps none; set it to true, or leave the "
          "task out");
    if (task.few_shot > 0 && task.examples.empty())
      add("examples", fmt::format("missing; few_shot is {}", task.few_shot));
  }
}

void check_gates(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto* list = root.find("gate");
  const Places places(root);
  std::vector<std::string> labels = {kComparison};
  for (const auto& task : recipe.eval.tasks) labels.push_back(task.label());
  const bool exports_a_model = recipe.exports.merged != "none" || !recipe.exports.gguf.empty();
  for (size_t i = 0; i < recipe.gate.size(); ++i) {
    const auto& gate = recipe.gate[i];
    const auto add = [&](const char* key, const std::string& text) {
      problems.push_back({places.of_item(list, i, key), fmt::format("gate[{}].{}: {}", i, key, text)});
    };
    if (gate.metric.empty()) continue;  // reported as missing
    const auto task = gate.metric.substr(0, gate.metric.rfind('.'));
    if (std::find(labels.begin(), labels.end(), task) == labels.end()) {
      const auto near = nearest(task, labels);
      add("metric", fmt::format("no task of eval.tasks is named '{}'{}", printable(task),
                                near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
    }
    if (task == kComparison && gate.model == "tuned")
      add("model", "the comparison is between the tuned and the exported model; expected exported");
    if (task == kComparison && gate.worse_than_base_by)
      add("worse_than_base_by", "the base is not compared with itself; set at_most or at_least");
    if (task == kComparison && gate.against_base != "any")
      add("against_base", "the base is not compared with itself; set at_most or at_least");
    if (gate.unbounded())
      add("metric", "has no bound; set at_least, at_most, worse_than_base_by or against_base");
    if (gate.model == "exported" && !exports_a_model)
      add("model", "no model is exported; set export.merged or export.gguf, or expect it of the tuned model");
  }
}

// Canaries that could not be told apart, that nobody would measure, or that a gate could not see.
void check_canaries(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& spec = recipe.data.canaries;
  const auto* eval = root.find("eval");
  const auto* list = eval ? eval->find("tasks") : nullptr;
  const Places places(root);
  bool measured = false;
  for (size_t i = 0; i < recipe.eval.tasks.size(); ++i) {
    if (recipe.eval.tasks[i].kind != "exposure") continue;
    measured = true;
    if (spec.count == 0)
      problems.push_back({places.of_item(list, i, "kind"),
                          fmt::format("eval.tasks[{}].kind: exposure measures canaries, and none is planted; "
                                      "set data.canaries.count",
                                      i)});
  }
  if (spec.count == 0) return;
  const auto add = [&](const char* key, const std::string& text) {
    problems.push_back({places.of("data", "canaries"), fmt::format("data.canaries.{}: {}", key, text)});
  };
  if (!measured) add("count", "nothing measures the canaries; add {kind: exposure} to eval.tasks");
  if (spec.text.find("{random}") == std::string::npos)
    add("text", "expected {random}, which stands for a canary's digits, in '" + printable(spec.text) + "'");
  if (static_cast<double>(spec.count + spec.twins) > std::pow(10.0, static_cast<double>(spec.digits)) / 2)
    add("digits", fmt::format("{} are too few for {} canaries and {} twins; raise it", spec.digits,
                              spec.count, spec.twins));
  if (recipe.distill && recipe.distill->on_policy)
    add("count",
        "the model learns from its own answers, in which no canary stands; leave distill.on_policy "
        "out, or plant none");
  const auto limit = std::log2(static_cast<double>(spec.twins) + 1);
  for (size_t i = 0; i < recipe.gate.size(); ++i) {
    const auto& gate = recipe.gate[i];
    for (const auto& task : recipe.eval.tasks)
      if (task.kind == "exposure" && gate.metric.starts_with(task.label() + ".") && gate.at_most &&
          *gate.at_most >= limit)
        problems.push_back(
            {places.of_item(root.find("gate"), i, "at_most"),
             fmt::format("gate[{}].at_most: {:g} always passes: with {} twins exposure is at most {:.2f}; "
                         "raise data.canaries.twins",
                         i, *gate.at_most, spec.twins, limit)});
  }
}

void check_exports(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const Places places(root);
  const auto add = [&](const char* key, const std::string& text) {
    problems.push_back({places.of("export", key), fmt::format("export.{}: {}", key, text)});
  };
  std::set<std::string> seen;
  for (const auto& type : recipe.exports.gguf)
    if (!seen.insert(type).second) add("gguf", fmt::format("'{}' is listed twice", type));
  if (recipe.exports.merged == "keep" && recipe.model.weights != "keep")
    add("merged",
        fmt::format("keep writes the base's own matrices, and model.weights: {} trains on others; set "
                    "model.weights: keep, or export bf16",
                    recipe.model.weights));
  if (!recipe.exports.gguf_adapter) return;
  if (!recipe.adapter.low_rank())
    add("gguf_adapter",
        fmt::format("adapter.kind {} leaves no adapter to write; set it to false", recipe.adapter.kind));
  if (recipe.adapter.kind == "dora")
    add("gguf_adapter",
        "a GGUF adapter holds LoRA only, this one is DoRA; set it to false and deploy the merged model");
  if (!recipe.adapter.modules_to_save.empty())
    add("gguf_adapter",
        "a GGUF adapter cannot hold adapter.modules_to_save; set it to false and deploy the merged model");
  if (!recipe.adapter.trainable_tokens.empty())
    add("gguf_adapter",
        "a GGUF adapter cannot hold adapter.trainable_tokens; set it to false and deploy the merged model");
}

// data.loss: all learns every token, whatever is chosen beside it.
void check_train_on(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  if (recipe.data.loss != "all" || recipe.data.train_on.usual()) return;
  problems.push_back({Places(root).of("data", "train_on"),
                      "data.train_on: chooses messages, but data.loss is all and learns every token; set "
                      "data.loss to completion"});
}

// A switch that could change nothing.
void check_trained_rows(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& adapter = recipe.adapter;
  const bool added = !recipe.model.add_tokens.empty() || !recipe.model.add_words.empty();
  if (adapter.trainable_tokens_head && adapter.trainable_tokens.empty() && adapter.from.empty() && !added)
    problems.push_back({Places(root).of("adapter", "trainable_tokens_head"),
                        "adapter.trainable_tokens_head: means the tokens of adapter.trainable_tokens, which "
                        "lists none; list some, or leave this out"});
}

// An adapter that is trained beside merged ones stands on a base that no file holds.
void check_merge(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  if (recipe.adapter.merge.empty() || !recipe.adapter.low_rank()) return;
  const auto add = [&](const char* key) {
    problems.push_back(
        {Places(root).of("export", key),
         fmt::format("export.{}: the base with adapter.merge in it is no file that this adapter could be put "
                     "on; set it to false and export the merged model, or go on from one adapter with "
                     "adapter.from",
                     key)});
  };
  if (recipe.exports.adapter) add("adapter");
  if (recipe.exports.gguf_adapter) add("gguf_adapter");
}

void check_features(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& distill = *recipe.distill;
  const auto add = [&](const char* key, const std::string& text) {
    problems.push_back({Places(root).of("distill", key), fmt::format("distill.{}: {}", key, text)});
  };
  const bool live = recipe.teacher && recipe.teacher->live;
  if (distill.alignment == "bytes" && live)
    add("alignment", "bytes are carried from a cache; set teacher.live to false");
  if (distill.alignment == "bytes" && distill.on_policy)
    add("alignment",
        "the student's own answers are graded token by token; distill.on_policy needs a teacher of the same "
        "tokenizer");
  if (distill.on_policy && recipe.data.loss == "all")
    add("on_policy",
        "the student answers what stands before the first token that is learned, and data.loss is all; set "
        "data.loss to completion");
  if (distill.loss == "uld" && live) add("loss", "uld compares with a cache; set teacher.live to false");
  if (distill.loss == "uld" && distill.on_policy)
    add("loss", "uld has no rounds; leave distill.on_policy out or choose another loss");
  if (distill.loss == "uld" && distill.select)
    add("select", "uld hears the teacher at every position; leave distill.select out");
  if (distill.features.empty()) return;
  if (distill.on_policy)
    add("features", "rounds are graded into a cache, which keeps no features; leave distill.on_policy out");
  else if (!live) add("features", "a cache keeps no features; set teacher.live to true");
  const bool attention = std::any_of(distill.features.begin(), distill.features.end(),
                                     [](const FeatureSpec& feature) { return feature.kind == "attention"; });
  if (attention && recipe.train.recompute)
    add("features", "attention is not heard in layers that are computed again; set train.recompute to false");
  if (attention && !recipe.train.memory.empty())
    add("features",
        "attention is not heard in layers that are computed again, which train.memory may choose; leave "
        "train.memory out");
}

// Why text is not an address that a teacher may be asked at; empty when it is.
std::string wrong_address(const std::string& url) {
  const bool plain = url.starts_with("http://"), tls = url.starts_with("https://");
  if (!plain && !tls) return "expected http://HOST/v1 or https://HOST/v1";
  const auto host = url.substr(plain ? 7 : 8, url.find('/', plain ? 7 : 8) - (plain ? 7 : 8));
  if (host.empty()) return "names no host";
  if (host.find('@') != std::string::npos)
    return "holds a name or password; put a token into a file (teacher.server.token_file)";
  if (url.find_first_of("?#") != std::string::npos ||
      std::any_of(url.begin(), url.end(), [](unsigned char c) { return c <= ' ' || c >= 0x7F; }))
    return "expected an address without '?', '#' and spaces";
  return "";
}

void check_teacher(const Recipe& recipe, const Places& places, std::vector<Problem>& problems) {
  const auto& teacher = *recipe.teacher;
  const auto add = [&](const char* key, const std::string& text) {
    problems.push_back({places.of("teacher", key), fmt::format("teacher.{}: {}", key, text)});
  };
  const auto named = !teacher.path.empty() + !teacher.url.empty() + !teacher.distillkit.empty();
  if (named == 0)
    add("path", "missing; expected a model folder or .gguf file, or teacher.url, or teacher.distillkit");
  if (named > 1)
    add(teacher.url.empty() ? "distillkit" : "url",
        "a teacher is a model on disk, behind a server or what DistillKit kept of one; keep one of path, url "
        "and distillkit");
  if (teacher.answers && teacher.url.empty())
    add("answers", "only a server is asked for answers; set teacher.url");
  if (teacher.at_hand()) return;
  const bool served = !teacher.url.empty();
  const char* key = served ? "url" : "distillkit";
  const auto wrong = served ? wrong_address(teacher.url) : "";
  if (!wrong.empty()) add("url", wrong);
  if (teacher.answers && recipe.distill)
    add("answers",
        "a recipe either collects answers or distils; train on teacher.answers.file with a recipe of its "
        "own");
  if (teacher.answers) return;
  const char* who = served ? "a server" : "DistillKit";
  if (teacher.keep.draws != 0)
    add("keep", fmt::format("draws: {} asks for draws from the whole distribution, {} gives its likeliest "
                            "tokens; set draws: 0",
                            teacher.keep.draws, who));
  if (teacher.live) add("live", fmt::format("{} is not asked at every step; set it to false", who));
  if (recipe.distill && recipe.distill->temperature != 1)
    add(key, fmt::format("{} gives probabilities at temperature 1; distill.temperature is {}", who,
                         recipe.distill->temperature));
  if (!recipe.distill) return;
  if (recipe.distill->on_policy) add(key, "distill.on_policy needs a teacher on disk");
  if (recipe.distill->loss == "uld" || recipe.distill->alignment == "bytes")
    add(key,
        fmt::format("{} tokens must be the student's: loss uld and alignment bytes need a teacher on disk",
                    served ? "a server's" : "DistillKit's"));
}

// `schedule`, `memory` and `scratch` of model or teacher.
template <class Spec> void check_schedule(const char* section, const Spec& spec, const YamlNode& root,
                                          std::vector<Problem>& problems) {
  const auto add = [&](const char* key, const std::string& problem) {
    problems.push_back({Places(root).of(section, key), fmt::format("{}.{}: {}", section, key, problem)});
  };
  constexpr auto kByLayers =
      "is for a model that is read layer by layer; leave it out, or set schedule to layers or auto";
  if (!spec.memory.empty() && !byte_size(spec.memory))
    add("memory", fmt::format("expected a size such as 700MiB or 16GiB, found '{}'", printable(spec.memory)));
  else if (!spec.memory.empty() && spec.schedule == "tokens") add("memory", kByLayers);
  if (!spec.scratch.empty() && spec.schedule == "tokens") add("scratch", kByLayers);
}

void check_budget(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  check_schedule("model", recipe.model, root, problems);
  if (recipe.model.scratch_holds == "activations" && recipe.model.scratch.empty())
    problems.push_back({Places(root).of("model", "scratch_holds"),
                        "model.scratch_holds: activations lie in the scratch folder, and there is none; set "
                        "model.scratch to a folder, or leave scratch_holds out"});
  if (recipe.teacher) check_schedule("teacher", *recipe.teacher, root, problems);
  if (!recipe.train.memory.empty() && !byte_size(recipe.train.memory))
    problems.push_back({Places(root).of("train", "memory"),
                        fmt::format("train.memory: expected a size such as 700MiB or 1.5GiB, found '{}'",
                                    printable(recipe.train.memory))});
}

void check_mtp(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const Places places(root);
  const auto& targets = recipe.adapter.targets;
  const bool adapted = recipe.adapter.low_rank() && std::ranges::find(targets, "mtp") != targets.end();
  if (recipe.model.mtp && recipe.distill)
    problems.push_back({places.of("model", "mtp"),
                        "model.mtp: the token after the next is learned from texts, not from a teacher; set "
                        "it to false, or leave distill out"});
  if (recipe.model.mtp && recipe.prune)
    problems.push_back({places.of("model", "mtp"),
                        "model.mtp: the layer behind the last is no part of a pruned model; set it to false, "
                        "or leave prune out"});
  // A run's own recipe says every key: what is as usual says nothing.
  if (!recipe.model.mtp && recipe.train.mtp_weight != TrainSpec().mtp_weight)
    problems.push_back({places.of("train", "mtp_weight"),
                        "train.mtp_weight: the layer that it is for is not read; set model.mtp: true, or "
                        "leave it out"});
  if (adapted && !recipe.model.mtp)
    problems.push_back({places.of("adapter", "targets"),
                        "adapter.targets: 'mtp' is the layer behind the last, which predicts the token after "
                        "the next; set model.mtp: true, or leave it out"});
  else if (adapted && recipe.train.mtp_weight == 0)
    problems.push_back({places.of("adapter", "targets"),
                        "adapter.targets: 'mtp' learns nothing while train.mtp_weight is 0; set it above 0, "
                        "or leave the target out"});
}

void check_distillation(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const Places places(root);
  if (recipe.distill) check_features(recipe, root, problems);
  if (recipe.distill && !recipe.teacher)
    problems.push_back(
        {places.of("distill", "loss"), "distill: there is no teacher; add a teacher section with its path"});
  if (recipe.teacher) check_teacher(recipe, places, problems);
}

void check_warmup(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& schedule = recipe.train.schedule;
  if (schedule.warmup_steps == 0 || schedule.warmup_share == 0) return;
  problems.push_back(
      {Places(root).of("train", "schedule"),
       fmt::format("train.schedule: warmup_steps: {} and warmup_share: {} both say how long the "
                   "rate grows; leave one of them out",
                   schedule.warmup_steps, schedule.warmup_share)});
}

// Steps and times of an epoch are two ways to say one thing.
void check_intervals(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto* train = root.find("train");
  const auto check = [&](const char* section, int64_t every, int64_t usual, int64_t per_epoch) {
    const auto* written = train ? train->find(section) : nullptr;
    if (every == 0 || every == usual || per_epoch == 0) return;
    problems.push_back({written ? written->place : root.place,
                        fmt::format("train.{}: every: {} counts steps and per_epoch: {} counts times in an "
                                    "epoch; leave one of them out",
                                    section, every, per_epoch)});
  };
  const auto& evaluate = recipe.train.evaluate;
  const auto& checkpoint = recipe.train.checkpoint;
  check("evaluate", evaluate.every, 0, evaluate.per_epoch);
  check("checkpoint", checkpoint.every, CheckpointSpec().every, checkpoint.per_epoch);
}

// A choice by held-out loss needs something held out.
void check_evaluations(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& evaluate = recipe.train.evaluate;
  const auto& held_out = recipe.data.held_out;
  if (recipe.data.sources.empty() || held_out.fraction > 0 || held_out.count > 0) return;
  for (const auto& source : recipe.data.sources)
    if (source.use == "held_out") return;
  const auto add = [&](const char* key, const char* what) {
    problems.push_back(
        {Places(root).of("train", "evaluate"),
         fmt::format("train.evaluate.{}: {} by held-out loss, and nothing is held out; set "
                     "data.held_out.fraction, name a source with use: held_out, or leave this out",
                     key, what)});
  };
  if (evaluate.keep_best) add("keep_best", "the best weights are chosen");
  if (evaluate.patience > 0) add("patience", "training ends");
}

// One file on both sides: the score would be of what was learned.
void check_sides(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto* data = root.find("data");
  const auto* list = data ? data->find("sources") : nullptr;
  const auto& sources = recipe.data.sources;
  for (size_t held = 0; held < sources.size(); ++held) {
    if (sources[held].use != "held_out") continue;
    for (size_t other = 0; other < sources.size(); ++other) {
      if (sources[other].use == "held_out" || sources[other].path != sources[held].path ||
          sources[other].split != sources[held].split)
        continue;
      problems.push_back(
          {Places(root).of_item(list, held, "path"),
           fmt::format("data.sources[{}].path: '{}' is held out here and learned by data.sources[{}]; name "
                       "another file or split, or one source without `use`, which data.held_out divides",
                       held, printable(sources[held].path), other)});
      break;
    }
  }
}

// Whole training in fp32 starts from what rounding left, and holds nothing in fewer bits.
void check_rounded_base(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto& weights = recipe.model.weights;
  if (recipe.adapter.kind != "full" || weights == "keep" || weights == "f32" || weights == "bf16") return;
  problems.push_back(
      {Places(root).of("model", "weights"),
       fmt::format("model.weights: {} rounds the weights, and adapter.kind: full trains every one of them in "
                   "fp32, so that nothing is saved; leave it out, or train an adapter (kind: lora)",
                   weights)});
}

void check_device(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  const auto add = [&](const char* key, const std::string& problem) {
    const auto* written = root.find(key);
    problems.push_back({written ? written->place : root.place, fmt::format("{}: {}", key, problem)});
  };
  if (!names_device(recipe.device))
    add("device", fmt::format("expected {}, found '{}'", kDevices, printable(recipe.device)));
  if (recipe.device_memory.empty()) return;
  if (!byte_size(recipe.device_memory))
    add("device_memory",
        fmt::format("expected a size such as 700MiB or 60GiB, found '{}'", printable(recipe.device_memory)));
  else if (recipe.device == "cpu")
    add("device_memory", "is memory of a GPU, and device is cpu; leave it out, or set device to cuda");
}

}  // namespace

void check_relations(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems) {
  check_device(recipe, root, problems);
  check_budget(recipe, root, problems);
  check_warmup(recipe, root, problems);
  check_intervals(recipe, root, problems);
  check_evaluations(recipe, root, problems);
  check_sides(recipe, root, problems);
  check_rounded_base(recipe, root, problems);
  check_distillation(recipe, root, problems);
  check_tasks(recipe, root, problems);
  check_gates(recipe, root, problems);
  check_canaries(recipe, root, problems);
  check_exports(recipe, root, problems);
  check_merge(recipe, root, problems);
  check_trained_rows(recipe, root, problems);
  check_train_on(recipe, root, problems);
  check_mtp(recipe, root, problems);
}

}  // namespace retort
