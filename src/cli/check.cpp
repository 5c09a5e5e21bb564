// `retort check RECIPE`: everything that can be known before a run. Nothing is written.
#include <fmt/core.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "adapters/attach.h"
#include "base/json.h"
#include "base/machine_memory.h"
#include "base/ordered_work.h"
#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/machines_option.h"
#include "cli/recipe_option.h"
#include "data/beyond_context.h"
#include "data/canaries.h"
#include "data/check_samples.h"
#include "data/near_duplicates.h"
#include "data/overlap.h"
#include "data/personal_data.h"
#include "data/reject.h"
#include "data/rows.h"
#include "data/spelled_tokens.h"
#include "data/token_store.h"
#include "eval/answer_cost.h"
#include "eval/check_tasks.h"
#include "export/rehearse.h"
#include "formats/adapter_folder.h"
#include "models/experts.h"
#include "models/layer_stream.h"
#include "models/own_templates.h"
#include "models/read_config.h"
#include "models/text_part.h"
#include "ops/device.h"
#include "ops/device_copies.h"
#include "plan/fit_memory.h"
#include "report/progress.h"
#include "run/follow.h"
#include "run/rank_memory.h"
#include "run/run_folder.h"
#include "run/stage_distill.h"
#include "schedule/layer_cut.h"

namespace retort {

namespace {

struct CheckOptions {
  std::shared_ptr<RecipeOptions> recipe;
  std::optional<int64_t> samples;
  bool no_step = false, json = false;
  MachinesOptions machines;
  double step_seconds = 0, undivided_seconds = 0;
};

std::string mib(uint64_t count) {
  return count >= (uint64_t{10} << 30) ? fmt::format("{:.1f} GiB", static_cast<double>(count) / (1 << 30))
                                       : fmt::format("{} MiB", (count + (1 << 19)) >> 20);
}

// Weights in all, and those at work for one token: of a model with experts only some.
std::pair<double, double> millions(const Model& model) {
  const auto ends =
      static_cast<double>(model.config.vocabulary * model.config.hidden) * (model.config.tied_head ? 1 : 2);
  double all = ends, working = ends;
  for (const auto* layer : model.linears()) {
    const auto count = static_cast<double>(layer->weight.rows * layer->weight.columns);
    all += count;
    working += count * token_share(model.config, layer->place);
  }
  return {all / 1e6, working / 1e6};
}

std::string describe_size(const Model& model) {
  const auto [all, working] = millions(model);
  return fmt::format("{:.1f} million weights{}", all,
                     model.config.experts > 0
                         ? fmt::format(", {:.1f} million of them for each token ({} of {} experts),", working,
                                       model.config.experts_per_token, model.config.experts)
                         : "");
}

// "10 s of training, 3 s of evaluation, 1 s of opening and comparing the exports"
std::string describe(const TimePrediction& time) {
  auto text = duration(time.training) + " of training";
  const std::pair<double, const char*> others[] = {{time.teacher, "asking the teacher"},
                                                   {time.baseline, "training without the teacher"},
                                                   {time.evaluation, "evaluation"},
                                                   {time.reopening, "opening and comparing the exports"}};
  for (const auto& [seconds, what] : others)
    if (seconds > 0) text += fmt::format(", {} of {}", duration(seconds), what);
  return text;
}

// Passes over the training samples.
double epochs_of(const TrainSpec& spec, const RunWork& work, const Dataset& dataset) {
  if (spec.steps == 0) return spec.epochs;
  const auto steps = static_cast<double>(work.steps), all = static_cast<double>(dataset.train.size());
  if (spec.batch.tokens == 0) return steps * static_cast<double>(spec.batch.samples) / all;
  double rows = 0;  // a sample has one row less than tokens
  for (const auto& sample : dataset.train) rows += static_cast<double>(sample.tokens.size()) - 1;
  return steps * work.plain_rows_per_step / rows;
}

// "" where no record is nearly another.
std::string near_duplicates_line(const DataSpec& spec, const RecordSource& source, const RecordPlan& plan) {
  const auto side = [&](int64_t row) { return plan.rows[static_cast<size_t>(row)].side; };
  const auto found = find_near_duplicates(source, spec.near_duplicates.similarity, [&](int64_t row) {
    return row < static_cast<int64_t>(plan.rows.size()) && side(row) != Side::none;
  });
  if (found.pairs.empty()) return "";
  int64_t across = 0;
  for (const auto& [row, earlier] : found.pairs) across += side(row) != side(earlier);
  std::string places;
  for (const auto& place : found.places) places += (places.empty() ? "" : ", ") + place;
  return fmt::format(
      "near-duplicates: {} nearly the same as an earlier one (at least {:g} of their runs of 5 words are "
      "equal), {} of them on the other side of the split: {}{}{}",
      found.pairs.size() == 1 ? "1 record is" : fmt::format("{} records are", found.pairs.size()),
      spec.near_duplicates.similarity, across, places,
      found.pairs.size() > found.places.size() ? " and others" : "",
      spec.near_duplicates.remove ? "" : "; data.near_duplicates.remove: true leaves them out");
}

// The machines to plan for; none where none are asked for.
std::vector<RankMachine> machines_to_plan(const CheckOptions& options, const LoadedRecipe& loaded) {
  for (const auto seconds : {options.step_seconds, options.undivided_seconds})
    if (!(seconds >= 0 && std::isfinite(seconds)))
      throw RecipeError("--step-seconds and --undivided-seconds: expected 0 or more seconds");
  if (!options.machines.asked()) {
    if (options.step_seconds > 0 || options.undivided_seconds > 0)
      throw RecipeError(
          "--step-seconds and --undivided-seconds are of --ranks or --machines; say one of these");
    return {};
  }
  require_dividable(loaded);
  if (loaded.recipe.adapter.kind == "none")
    throw RecipeError(
        fmt::format("{}: adapter.kind: none trains nothing that ranks could divide; leave --ranks "
                    "and --machines out",
                    loaded.file));
  if (options.no_step && options.step_seconds == 0)
    throw RecipeError(
        "--no-step: ranks are planned from the time of a step; leave it out, or say --step-seconds");
  auto machines = options.machines.machines();
  require_threads(options.machines, machines, usable_threads(loaded.recipe.train.threads));
  return machines;
}

Exit check(const CheckOptions& options) {
  auto loaded = options.recipe->load();
  auto& recipe = loaded.recipe;
  const auto machines = machines_to_plan(options, loaded);
  open_device(recipe.device, recipe.device_memory);  // what is missing is told before anything is read
  require_run_or_empty(recipe.run.folder);
  require_sources(recipe.data.sources);
  check_gates(recipe.gate, recipe.eval);
  AdapterNotes adapter_notes;
  auto base = load_student(recipe, &adapter_notes);
  auto& model = *base.model;
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(base), *base.tokenizer);
  const auto compute = compute_type(recipe.model, model.device());
  const auto say = [&](const std::string& name, const std::string& text) {
    if (!options.json) fmt::print("{:<12} {}\n", name, text);
  };
  say("recipe", fmt::format("{} (sha256 {})", loaded.file, loaded.sha256.substr(0, 16)));
  say("model", fmt::format("{}{}: {}, {} in {} layers, held as {}, computed in {}", recipe.model.path,
                           recipe.prune ? " pruned" : "", model.config.family, describe_size(model),
                           model.config.layers,
                           recipe.model.weights == "keep" ? "the file stores them" : recipe.model.weights,
                           compute == at::kBFloat16 ? "bf16" : "f32"));
  if (!model.device().is_cpu()) say("device", retort::describe(model.device()));
  if (model.stream()) say("schedule", describe(*model.stream()));
  if (const auto cost =
          describe_answers(recipe.eval, {model, *base.tokenizer, &chat, compute}, recipe.model.path);
      !cost.empty())
    say("answers", cost);
  if (base.multimodal) say("left out", describe_left_out(base.left_out));
  if (model.config.mtp_layers > 0) say("mtp", describe_mtp(recipe.train.mtp_weight));
  if (base.beyond > 0) say("left out", describe_beyond(base.beyond));
  for (const auto& adapter : recipe.adapter.merge)
    say("merged", fmt::format("{:g} x {}", adapter.weight, adapter.path));
  recipe.adapter = with_token_ids(recipe.adapter, base);
  if (recipe.adapter.kind != "none")
    for (auto& note : require_start(base, recipe.adapter)) adapter_notes.push_back(std::move(note));
  if (!recipe.adapter.from.empty()) {
    const auto found = summary_of(open_adapter_folder(recipe.adapter.from));
    say("starts from", fmt::format("{}: {}, rank {}, alpha {:g}, {} layers", recipe.adapter.from, found.kind,
                                   found.rank, found.alpha, found.layers));
  }
  for (const auto& note : adapter_notes) say("note", note);
  require_usable_teacher(recipe, base);
  const auto teacher = teacher_size(recipe, model, options.machines.asked());
  if (teacher.bytes > 0)
    say("teacher", fmt::format("{}: {}, {:.1f} times the work of the student for a token",
                               recipe.teacher->path, mib(teacher.bytes), teacher.share));
  say("template", fmt::format("{}: {}", chat.name, chat.documentation));

  const SourceFiles files(recipe.data.sources, recipe.train.threads);
  const auto plan = plan_records(recipe.data, files);
  int64_t rejected = 0;
  for (const auto& source : plan.rejections) {
    say("reject", describe(source));
    rejected += source.total();
  }
  // A store that is there is what a run would read, or refuse.
  const bool stored = !recipe.data.cache.empty() && std::filesystem::exists(recipe.data.cache);
  const auto dataset = stored
                           ? load_dataset(recipe.data, *base.tokenizer, chat, nullptr, recipe.train.threads)
                           : build_dataset(recipe.data, files, plan, *base.tokenizer, chat);
  if (!recipe.train.memory.empty() && recipe.adapter.kind != "none") {
    const auto choice = choose_for_memory(recipe, model, compute, dataset);
    say("budget", fmt::format("{} of {}", describe(choice), recipe.train.memory));
    apply(choice, recipe.train);
  }
  const auto work = run_work(recipe.train, dataset.train);
  if (const auto warm_up = recipe.train.schedule.warmup_steps;
      recipe.adapter.kind != "none" && warm_up > work.steps)
    say("warm-up", fmt::format("{} steps of it in a run of {}: the learning rate never reaches "
                               "train.optimizer.learning_rate",
                               warm_up, work.steps));
  if (!options.json) {
    const auto shown = options.samples.value_or(recipe.is_private ? 0 : 3);
    const bool colour = isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR");
    fmt::print("\n{}\n",
               rendered_samples(dataset.train, *base.tokenizer, static_cast<size_t>(shown), colour));
    for (const auto& bad : plan.bad) say("bad", harmless(describe(bad)));
    for (const auto& line : left_out_lines(plan)) say("left out", line);
    if (recipe.data.canaries.count > 0) say("canaries", describe(recipe.data.canaries));
    fmt::print("{}", describe_sources(recipe.data, plan, epochs_of(recipe.train, work, dataset)));
    if (const auto spelled = describe(find_spelled_tokens(files, plan, *base.tokenizer)); !spelled.empty())
      fmt::print("{}\n", spelled);
    for (const auto& line :
         {near_duplicates_line(recipe.data, files, plan), describe(find_personal_data(files, plan))})
      if (!line.empty()) fmt::print("{}\n", harmless(line));
    fmt::print("{}\n", describe_samples(recipe.data, dataset,
                                        sample_statistics(dataset.train, recipe.train.batch.samples,
                                                          recipe.train.batch.pass_tokens, recipe.train.seed),
                                        find_overlap(files, plan)));
    std::fflush(stdout);
  }
  refuse_bad_samples(dataset, *base.tokenizer, chat);
  refuse_beyond_context(dataset, model.config.context, beyond_context_is(model.config));
  for (const auto& line : beyond_context(dataset, model.config.context)) say("context", line);
  if (asks_held_out_prompts(recipe.eval)) refuse_prompts_beyond_context(dataset, model.config.context);
  const auto inputs = check_tasks(recipe.eval, recipe.data, static_cast<int64_t>(dataset.held_out.size()));
  for (const auto& input : inputs)
    say("eval",
        fmt::format("{}: {}, {} of {}{}", input.task, input.kind, input.count,
                    input.path.empty() ? "the held-out samples" : input.path,
                    input.examples > 0 ? fmt::format(", {} examples before each", input.examples) : ""));

  // `check` leaves the run's folder alone.
  rehearse_exports(base, recipe.exports, recipe.adapter, std::filesystem::temp_directory_path());
  if (!recipe.exports.gguf.empty())
    for (const auto& line : gguf_ignored(model.config)) say("note", "export.gguf: " + line);

  const auto trainable = trainable_elements(model, recipe.adapter);
  auto memory = predict_memory(recipe, model, compute, work, dataset);
  memory.teacher = teacher.bytes, memory.teacher_mapped = teacher.mapped,
  memory.teacher_stays = teacher.stays;
  const auto disk = predict_disk(recipe, model, dataset);
  const auto scratch = predict_scratch(recipe, model, compute, work);
  const auto machine = machine_memory();
  say("training",
      recipe.adapter.kind == "none"
          ? "nothing (adapter.kind: none)"
          : fmt::format("{} of {:.2f} million weights in {} steps; a step has {:.0f} tokens, and "
                        "{:.0f} of them are computed (what samples begin with alike is computed "
                        "once), at most {} in a pass and {} passes at the same time",
                        recipe.adapter.kind, static_cast<double>(trainable) / 1e6, work.steps,
                        work.plain_rows_per_step, work.rows_per_step, work.most_rows, work.threads));
  say("memory", fmt::format("about {} at most, {} available: {}", mib(memory.peak()), mib(machine.available),
                            describe(memory)));
  say("disk", fmt::format("about {} in {}", mib(disk), recipe.run.folder));
  if (scratch > 0)
    say("scratch", fmt::format("about {} in {} (model.scratch)", mib(scratch), recipe.model.scratch));
  const bool times = !options.no_step && recipe.adapter.kind != "none",
             measures = times && options.step_seconds == 0;
  BytesOfRank of_rank;
  if (options.machines.asked()) {
    const auto rank = memory_of_rank(memory, 0, model);
    of_rank = {rank.needs - rank.shared, rank.shared};
  }
  if (measures || !options.machines.asked()) require_memory(memory, recipe);
  TimePrediction time;
  LoneStep step{.seconds = options.step_seconds};
  if (times) {
    if (measures) step.seconds = measure_row_seconds(recipe, model, compute, dataset) * work.rows_per_step;
    const auto row_seconds = step.seconds / std::max(1.0, work.rows_per_step);
    time = predict_time(recipe, work, dataset, {row_seconds, teacher.share}, compute);
    say("time", fmt::format("about {}, {}", describe(time),
                            measures ? "on this machine as busy as it is now"
                                     : "where a step takes what --step-seconds says"));
    if (measures && !model.device().is_cpu()) say("device", retort::describe(device_room()));
  }
  std::optional<RankPlans> ranks;
  if (options.machines.asked()) {
    step.forests = std::max<int64_t>(1, std::llround(work.forests_per_step));
    step.most_forests = work.most_forests;
    step.threads = usable_threads(recipe.train.threads);
    step.undivided_seconds = options.undivided_seconds;
    step.tokens = work.plain_rows_per_step;
    step.trainable_elements = trainable;
    ranks = plan_machines(step, machines, of_rank);
    if (!options.json) fmt::print("{}", describe(step, *ranks));
    if (const auto* shown = ranks->shown(); shown && !teacher.layers.empty())
      say("teacher", describe_cut(teacher.layers, cut_layers(teacher.layers, shown->ranks),
                                  [](int64_t rank) { return fmt::format("rank {}", rank); }));
  }
  if (options.json) {
    OrderedJson out = {{"recipe", loaded.file},
                       {"sha256", loaded.sha256},
                       {"rejected_records", rejected},
                       {"steps", work.steps},
                       {"rows_per_step", work.rows_per_step},
                       {"most_rows", work.most_rows},
                       {"trainable_elements", trainable},
                       {"peak_bytes", memory.peak()},
                       {"program_bytes", memory.program},
                       {"weight_bytes", memory.weights},
                       {"trainable_bytes", memory.trainables},
                       {"sample_bytes", memory.samples},
                       {"pass_bytes", memory.passes},
                       {"generation_bytes", memory.generation},
                       {"available_bytes", machine.available},
                       {"disk_bytes", disk},
                       {"training_seconds", time.training},
                       {"evaluation_seconds", time.evaluation},
                       {"teacher_bytes", memory.teacher},
                       {"teacher_seconds", time.teacher},
                       {"baseline_seconds", time.baseline},
                       {"reopening_seconds", time.reopening}};
    if (ranks) out["ranks"] = json_of(step, *ranks);
    fmt::print("{}\n", out.dump(1));
  }
  if (ranks)
    if (const auto missing = missing_memory(*ranks); !missing.empty()) throw Failure(missing);
  return Exit::done;
}

}  // namespace

void add_check(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "check", "Validate a recipe and its inputs, show samples, predict memory, disk and time");
  auto options = std::make_shared<CheckOptions>();
  options->recipe = add_recipe_options(*command);
  command
      ->add_option("--samples", options->samples,
                   "samples to show, learned tokens coloured; 3 unless the recipe is private, then none")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}));
  command->add_flag("--no-step", options->no_step, "do not time a step: memory and disk only");
  add_machines_options(*command, options->machines);
  command->add_option("--step-seconds", options->step_seconds,
                      "of a step by one rank, for --ranks and --machines; without it, what is measured here");
  command->add_option("--undivided-seconds", options->undivided_seconds,
                      "of a step besides, which every rank spends: cutting it into forests, the update (0)");
  command->add_flag("--json", options->json, "the predictions as one JSON object, without samples");
  command->callback([options, &action] { action = [options] { return check(*options); }; });
}

}  // namespace retort
