// `retort distill RECIPE`: student, teacher cache, training with and without the teacher, export, and the table that compares them.
// Each stage is skipped when it is done; a stopped run continues with the same command.
#include <fmt/core.h>

#include "adapters/attach.h"
#include "base/files.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "cli/stages.h"
#include "cli/teacher.h"
#include "data/token_store.h"
#include "distill/on_policy.h"
#include "distill/prune.h"
#include "distill/quality.h"
#include "eval/evaluate.h"
#include "export/artefacts.h"
#include "ops/workers.h"
#include "recipe/print.h"
#include "report/progress.h"
#include "train/train.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

const char* name_of(at::ScalarType type) { return type == at::kBFloat16 ? "bf16" : "f32"; }

class DistillRun {
 public:
  explicit DistillRun(LoadedRecipe loaded)
      : loaded_(std::move(loaded)), recipe_(loaded_.recipe), folder_(recipe_.run.folder), source_(load_model(recipe_.model)),
        chat_(choose_chat_template(recipe_.data.chat_template, source_.chat_template_source)), dataset_(load_dataset(recipe_.data, *source_.tokenizer, chat_)) {
    if (!recipe_.teacher || !recipe_.distill) throw RecipeError(fmt::format("{}: {}: missing; a distillation needs the sections teacher and distill", loaded_.file, recipe_.teacher ? "distill" : "teacher"));
    if (recipe_.adapter.kind == "none") throw RecipeError(fmt::format("{}: adapter.kind: none trains nothing; expected full or a low-rank kind", loaded_.file));
    if (recipe_.prune && recipe_.prune->vocabulary)
      throw RecipeError(fmt::format("{}: prune.vocabulary: the samples are tokenized before the cut; write the trimmed model with `retort prune` and name it in model.path", loaded_.file));
    make_folder(folder_);
    ledger_.emplace(folder_);
    // Measured once a run: a second measurement might come out differently.
    const auto chosen = ledger_->run("compute", StageInputs().add("compute", recipe_.model.compute), {}, [&] { return Json{{"type", name_of(compute_type(recipe_.model))}}; });
    compute_ = chosen.values.at("type") == "bf16" ? at::kBFloat16 : at::kFloat;
    write_text(folder_ / "recipe.yaml", loaded_.resolved);
  }

  Exit run() {
    train_one("distilled", true);
    if (recipe_.distill->baseline) train_one("ce-only", false);
    export_all();
    compare();
    return Exit::done;
  }

 private:
  // A fresh student: the model, cut where the recipe cuts it.
  LoadedModel student() {
    if (!recipe_.prune) return load_model(recipe_.model);
    auto pruned = prune(source_, compute_, *recipe_.prune, dataset_.train, usable_threads(recipe_.train.threads));
    if (!told_)
      for (const auto& line : pruned.kept) say("student", line);
    told_ = true;
    return std::move(pruned.model);
  }
  LoadedModel trained(const std::string& name) {
    auto loaded = student();
    load_trained(folder_ / name, attach(*loaded.model, recipe_.adapter, static_cast<uint64_t>(recipe_.train.seed)));
    return loaded;
  }
  Teacher& teacher() {
    if (!teacher_) teacher_ = load_teacher(*recipe_.teacher, *source_.tokenizer, TeacherOfRun(recipe_, *source_.tokenizer, chat_, dataset_.train).cache_folder());
    return *teacher_;
  }

  StageInputs inputs(bool taught) {
    auto train = recipe_.train;
    train.checkpoint = {};
    StageInputs all;
    all.add("retort", RETORT_VERSION).add("model", source_.sha256).add("model section", print_spec(recipe_.model)).add("compute", name_of(compute_)).add("samples", samples_hash(dataset_.train));
    all.add("prune", recipe_.prune ? print_spec(*recipe_.prune) : "").add("adapter", print_spec(recipe_.adapter)).add("train", print_spec(train));
    if (taught) all.add("teacher", identity_of(*recipe_.teacher, teacher(), chat_, recipe_.distill->temperature).weights).add("teacher section", print_spec(*recipe_.teacher)).add("distill", print_spec(*recipe_.distill));
    return all;
  }

  void train_one(const std::string& name, bool taught) {
    const auto what = inputs(taught);
    const auto stage = ledger_->run(name, what, {fs::path(name) / "trained.safetensors"}, [&] { return train_now(name, taught, what); });
    say(name, fmt::format("{} steps, loss {:.4f}, {:.0f} tokens/s, peak {}{}", stage.values.at("steps").get<int64_t>(), stage.values.at("last_loss").get<double>(),
                          stage.values.at("tokens").get<double>() / std::max(stage.values.at("seconds").get<double>(), 1e-9), bytes(stage.values.at("peak_bytes").get<uint64_t>()), stage.skipped ? "  (done before)" : ""));
  }

  Json train_now(const std::string& name, bool taught, const StageInputs& what) {
    auto loaded = student();
    const auto leaves = attach(*loaded.model, recipe_.adapter, static_cast<uint64_t>(recipe_.train.seed));
    std::optional<Progress> progress;
    TrainWatch watch;
    watch.on_start = [&](int64_t done, int64_t steps) { progress.emplace(name, steps, "steps", done); };
    watch.on_step = [&](const StepRecord& step) { progress->update(step.step, fmt::format("loss {:.4f}  {:.0f} tokens/s", step.loss, static_cast<double>(step.tokens) / std::max(step.seconds, 1e-9))); };
    watch.on_note = [&](const std::string& text) { progress ? progress->note(text) : say(name, text); };
    TrainJob job{*loaded.model, leaves, dataset_.train, dataset_.held_out, next_token_objective(), compute_, folder_ / name, {{"inputs", what.sha256()}}};
    const auto& distill = *recipe_.distill;
    if (taught && distill.on_policy) {
      const OnPolicyJob rounds{job, *source_.tokenizer, stop_rules(loaded.model->config, *source_.tokenizer, &chat_, {}), teacher(), identity_of(*recipe_.teacher, teacher(), chat_, distill.temperature)};
      const auto result = train_on_policy(recipe_.train, distill, *recipe_.teacher, rounds, watch, [&](const OnPolicyRound& round) {
        progress.reset();
        say("round", fmt::format("{}: {} answers of {} tokens in {:.0f} s, {} positions graded in {:.0f} s with one pass over {} of weights, trained in {:.0f} s", round.round, round.answers, round.answer_tokens,
                                 round.seconds_answering, round.positions, round.seconds_grading, bytes(round.teacher_bytes), round.seconds_training));
      });
      return values_of(result.train);
    }
    if (taught) {
      teacher_.reset();
      TeacherOfRun asked(recipe_, *source_.tokenizer, chat_, dataset_.train);
      if (!recipe_.teacher->live) say("teacher", asked.complete());
      job.objective = asked.objective();
    }
    return values_of(train(recipe_.train, job, watch));
  }
  static Json values_of(const TrainResult& result) {
    return {{"steps", result.steps}, {"last_loss", result.last_loss}, {"tokens", result.tokens}, {"seconds", result.seconds}, {"peak_bytes", result.peak_bytes}};
  }

  void export_all() {
    for (const auto& type : recipe_.exports.gguf) {
      const auto mixture = mixture_from_name(type);
      if (!mixture) throw RecipeError(fmt::format("export.gguf: no mixture is named '{}'", printable(type)));
      const auto file = fs::path("export") / fmt::format("model-{}.gguf", type);
      const auto stage = ledger_->run("export " + type, inputs(true).add("type", type), {file}, [&] {
        make_folder(folder_ / "export");
        auto loaded = trained("distilled");
        return Json{{"bytes", write_gguf_model(folder_ / file, loaded, *mixture, recipe_.exports.fallback, usable_threads(recipe_.train.threads)).bytes}};
      });
      say("export", fmt::format("{}, {}", (folder_ / file).string(), bytes(stage.values.at("bytes").get<uint64_t>())));
      exported_.emplace_back(type, folder_ / file);
    }
  }

  void compare() {
    std::vector<std::pair<std::string, LoadedModel>> models;
    models.emplace_back("base", student());
    if (recipe_.distill->baseline) models.emplace_back("ce-only", trained("ce-only"));
    models.emplace_back("distilled", trained("distilled"));
    for (const auto& [type, file] : exported_) models.emplace_back(type, load_model({.path = file.string()}));
    std::vector<Student> students;
    for (const auto& [name, loaded] : models) students.push_back({*loaded.model, compute_});
    say("compare", "with the teacher on the held-out samples ...");
    const auto& asked = teacher();
    const auto quality = measure_quality({*asked.loaded.model, asked.compute}, students, build_forests(dataset_.held_out, recipe_.eval.row_tokens), *source_.tokenizer, asked.vocabulary, recipe_.eval.threads);
    std::vector<std::string> head = {"model", "KL(t||s)", "KL(s||t)", "top-1", "top-5", "accepted", "calib.", "perplexity", "bits/byte"};
    std::vector<std::vector<std::string>> rows;
    Json record = Json::array();
    for (size_t i = 0; i < quality.size(); ++i) {
      const bool is_teacher = i == models.size();
      const auto& q = quality[i];
      const std::string name = is_teacher ? "teacher" : models[i].first;
      std::vector<std::string> row = {name, fmt::format("{:.4f}", q.forward_kl), fmt::format("{:.4f}", q.reverse_kl), fmt::format("{:.1f}%", 100 * q.top1), fmt::format("{:.1f}%", 100 * q.top5),
                                      fmt::format("{:.2f}", q.acceptance_length()), fmt::format("{:.3f}", q.calibration_error), fmt::format("{:.3f}", q.perplexity()), fmt::format("{:.3f}", q.bits_per_byte)};
      Json tasks = Json::object();
      const auto& loaded = is_teacher ? asked.loaded : models[i].second;
      const Subject subject{*loaded.model, *source_.tokenizer, &chat_, compute_};
      if (!recipe_.eval.tasks.empty()) say("evaluate", name + " ...");
      for (const auto& task : evaluate(recipe_.eval, subject, {dataset_.held_out, dataset_.held_out_records}, folder_ / "eval" / name)) {
        if (task.metrics.empty()) continue;
        if (i == 0) head.push_back(task.task + " " + task.metrics.front().first);
        row.push_back(fmt::format("{:.4f}", task.metrics.front().second));
        for (const auto& [key, value] : task.metrics) tasks[task.task + "." + key] = value;
      }
      rows.push_back(std::move(row));
      record.push_back({{"name", name}, {"rows", q.rows}, {"forward_kl", q.forward_kl}, {"reverse_kl", q.reverse_kl}, {"top1", q.top1}, {"top5", q.top5}, {"acceptance", q.acceptance},
                        {"acceptance_length", q.acceptance_length()}, {"calibration_error", q.calibration_error}, {"perplexity", q.perplexity()}, {"bits_per_byte", q.bits_per_byte}, {"tasks", tasks}});
    }
    write_text(folder_ / "agreement.json", record.dump(1) + "\n");
    rows.insert(rows.begin(), head);
    for (const auto& row : rows) {
      std::string line;
      for (size_t c = 0; c < row.size(); ++c) {
        size_t width = 0;
        for (const auto& other : rows) width = std::max(width, other[c].size());
        line += c == 0 ? fmt::format("{:<{}}", row[c], width) : fmt::format("  {:>{}}", row[c], width);
      }
      fmt::print("{}\n", line);
    }
  }

  void say(const std::string& stage, const std::string& text) const { fmt::print(stderr, "{:<12} {}\n", stage, text); }

  LoadedRecipe loaded_;
  const Recipe& recipe_;
  fs::path folder_;
  LoadedModel source_;
  const ChatTemplate& chat_;
  Dataset dataset_;
  std::optional<StageLedger> ledger_;
  at::ScalarType compute_ = at::kFloat;
  std::optional<Teacher> teacher_;
  std::vector<std::pair<std::string, fs::path>> exported_;
  bool told_ = false;
};

}  // namespace

void add_distill(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("distill", "Train a recipe's model towards its teacher, with the same model trained without one beside it");
  auto options = add_recipe_options(*command);
  command->callback([options, &action] { action = [options] { return DistillRun(options->load()).run(); }; });
}

}  // namespace retort
